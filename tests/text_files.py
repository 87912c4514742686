"""Documents as the files that a source of text reads."""


def write_documents(folder, documents):
    """Each under its own name in `folder / "text"`, which is returned."""
    for document in documents:
        path = folder / "text" / document.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document.text)
    return folder / "text"
