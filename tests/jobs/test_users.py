"""What Redis keeps for users: tasks have one lifetime, however late they are changed."""

from jobs.users import UserRecords


def test_a_task_keeps_its_jobs_and_that_it_was_stopped(job_store):
    records = UserRecords(job_store.connection)
    assert records.task("ann", "fox") is None
    records.begin_task("ann", "fox")
    records.record_jobs("ann", "fox", ["1", "2"], whole=True)
    records.stop_task("ann", "fox")
    task = records.task("ann", "fox")
    assert (task.jobs, task.whole, task.stopped) == (("1", "2"), True, True)
    assert records.task("bob", "fox") is None


def test_a_change_to_a_task_that_has_just_expired_leaves_nothing_for_ever(job_store):
    records = UserRecords(job_store.connection)
    records.stop_task("ann", "fox")
    records.record_jobs("ann", "dog", ["1"], whole=False)
    redis = job_store.connection.redis
    names = redis.keys("*task:*")
    assert len(names) == 2 and all(redis.ttl(name) > 0 for name in names)
    assert records.task("ann", "fox") is None
