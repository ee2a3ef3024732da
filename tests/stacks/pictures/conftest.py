from __future__ import annotations

from tests.support.browser_fixtures import browser, folder, page, pytest_pyfunc_call

__all__ = ("browser", "folder", "page", "pytest_pyfunc_call")
