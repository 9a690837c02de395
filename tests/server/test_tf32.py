import pytest

from server.tf32 import tf32_line


@pytest.mark.parametrize(
    ("gpu", "environment", "words"),
    [
        (False, {}, "no GPU"),
        (True, {}, "NVIDIA_TF32_OVERRIDE=0 turns it off"),
        (True, {"NVIDIA_TF32_OVERRIDE": "0"}, "TF32: off"),
    ],
)
def test_the_log_says_whether_tf32_is_used(tmp_path, gpu, environment, words):
    driver = tmp_path / "nvidiactl"
    if gpu:
        driver.touch()
    line = tf32_line(environment, driver)
    assert line.startswith("TF32: ")
    assert words in line
