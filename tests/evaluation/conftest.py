import pytest
from known_answers import evaluation_of_brightness


@pytest.fixture
def evaluation(tmp_path, request):
    return evaluation_of_brightness(tmp_path / "s", **getattr(request, "param", {}))
