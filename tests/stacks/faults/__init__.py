"""The tests share one stack, which ends with the last of them: the fixture has the scope of this package."""
