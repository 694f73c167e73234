import pytest
from known_answers import setting_of_brightness


@pytest.fixture
def setting(tmp_path, request):
    return setting_of_brightness(tmp_path / "s", **getattr(request, "param", {}))
