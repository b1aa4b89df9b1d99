"""What users received lately is remembered for a while, and only for them."""


def test_a_user_received_all_pictures_if_one_was_for_this_wish(job_store):
    job_store.received.record("ann", {"fox"}, {"1", "2"}, 60)
    job_store.received.record("ann", {"dog"}, {"3"}, 60)
    assert job_store.received.find("ann", "fox", 60) == {"1", "2", "3"}
    assert job_store.received.find("ann", "cat", 60) == set()
    assert job_store.received.find("bob", "fox", 60) == set()


def test_it_is_forgotten_after_the_given_time(job_store):
    job_store.received.record("ann", {"fox"}, {"1"}, 60)
    [name] = job_store.connection.redis.keys("*received:*")
    assert 0 < job_store.connection.redis.ttl(name) <= 60
    job_store.connection.redis.zincrby(name, -61, "picture:1")
    job_store.received.record("ann", {"dog"}, {"2"}, 60)
    assert job_store.received.find("ann", "fox", 60) == {"2"}
    job_store.connection.redis.zincrby(name, -61, "wish:fox")
    assert job_store.received.find("ann", "fox", 60) == set()


def test_what_was_recorded_can_be_taken_back(job_store):
    job_store.received.record("ann", {"fox"}, {"1", "2"}, 60)
    job_store.received.forget("ann", {"fox"}, {"1"})
    assert job_store.received.find("ann", "fox", 60) == set()
    job_store.received.record("ann", {"fox"}, {"3"}, 60)
    assert job_store.received.find("ann", "fox", 60) == {"2", "3"}


def test_only_the_newest_of_very_many_are_kept(job_store):
    for start in range(0, 1200, 400):
        job_store.received.record("ann", {"fox"}, {f"{start + number:04}" for number in range(400)}, 60)
    found = job_store.received.find("ann", "fox", 60)
    assert len(found) == 999 and "1199" in found and "0000" not in found
