from pathlib import Path

from gateway.apidocs import render
from gateway.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_page_says_what_the_code_does() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python -m gateway.apidocs > docs/api.md`"


def test_every_setting_is_on_it() -> None:
    page = render()
    assert all(f"`GATEWAY_{name.upper()}`" in page for name in Settings.model_fields)
