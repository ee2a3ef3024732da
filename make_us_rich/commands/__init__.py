"""`mkrich`, a module a subject. Imports of a command's own stand inside it, so that `mkrich --help` is quick."""
