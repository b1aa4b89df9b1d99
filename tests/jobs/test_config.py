"""The settings that web and workers share are checked when they are read."""

import pytest

from jobs.config import JobsConfig
from memo import BadSetup


def test_kombu_gets_a_socket_as_a_url_in_its_own_form():
    config = JobsConfig(redis="unix://:pw@/data/redis.sock?db=0")
    assert config.broker == "redis+socket://:pw@/data/redis.sock?virtual_host=0"
    assert JobsConfig(redis="redis://:pw@host:6379/0").broker == "redis://:pw@host:6379/0"


def test_a_secret_file_is_read_without_its_last_newline(tmp_path):
    (tmp_path / "url").write_text("redis://:s3cret@host:6379/0\n")
    config = JobsConfig.from_env({"JOBS_REDIS_FILE": str(tmp_path / "url"), "JOBS_MODELS": "pictures"})
    assert (config.redis, config.models) == ("redis://:s3cret@host:6379/0", "pictures")


@pytest.mark.parametrize("url", ["amqp://host", "", "localhost:6379"])
def test_a_url_that_is_not_for_redis_is_refused(url):
    with pytest.raises(BadSetup, match="JOBS_REDIS"):
        JobsConfig(redis=url)
