"""API keys, signing in, and the limits on how much each user may request."""

import itertools
import re
import time

import pytest
from click.testing import CliRunner
from flask import Flask

from jobs.api_keys import ApiKeys
from jobs.job import State
from jobs.store.job_store import open_job_store
from memo import BadSetup
from memoaized.cli import main
from tests.real import ROOT, wait_for
from web.auth import PUBLIC_ENDPOINTS
from web.config import WebConfig

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}
TOKEN = r'<meta name="csrf-token" content="([^"]+)">'
FIELD = r'name="csrf_token" value="([^"]+)"'


def static_status(client):
    """The status of a static file."""
    with client.get("/static/style.css") as answer:
        return answer.status_code


def basic(password):
    import base64

    return {"Authorization": "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()}


@pytest.fixture
def signed_in(guarded, keys):
    """A browser in which Ada signed in."""
    _, key = keys.add("ada")
    browser = guarded.test_client()
    token = re.search(FIELD, browser.get("/sign-in").text)[1]
    answer = browser.post("/sign-in", data={"key": key, "csrf_token": token, "next": "/gallery"})
    assert (answer.status_code, answer.location) == (303, "/gallery")
    browser.session_cookie = answer.headers["Set-Cookie"]
    return browser


def test_only_the_hash_of_a_key_is_stored(keys, job_store):
    holder, key = keys.add("ada")
    assert re.fullmatch(r"memo_[\w-]{43}", key) and keys.find(key) == holder
    dump = "".join(str(job_store.connection.redis.dump(name)) for name in job_store.connection.redis.keys("*"))
    assert key.removeprefix("memo_") not in dump and holder.role == "user"


def test_each_key_has_its_own_scope_unless_it_names_another(keys):
    scopes = [
        keys.add(name, scope=scope)[0].scope for name, scope in [("a", ""), ("b", ""), ("c", "a"), ("d", "shared")]
    ]
    assert scopes[0] == scopes[2] != scopes[1] and scopes[3] == "shared"
    assert re.fullmatch(r"a\.[0-9a-f]{16}", scopes[0])


def test_a_new_key_of_the_same_name_has_the_same_scope(keys):
    first, old = keys.add("ada")
    assert keys.remove("ada") and keys.find(old) is None and not keys.remove("ada")
    assert keys.add("ada")[0].scope == first.scope


@pytest.mark.parametrize("name", ["", "a b", "ä", "-x", "x" * 65, "a\n", "a:b"])
def test_an_ambiguous_name_is_refused(keys, name):
    with pytest.raises(BadSetup):
        keys.add(name)


def test_two_keys_cannot_share_a_name(keys):
    keys.add("ada")
    with pytest.raises(BadSetup, match="already"):
        keys.add("ada")
    assert len(keys.all()) == 1


def test_a_key_is_accepted_in_every_header_that_clients_use(guarded, keys):
    _, key = keys.add("ada")
    client = guarded.test_client()
    for headers in ({"Authorization": f"Bearer {key}"}, basic(key), {"apikey": key}):
        assert client.get("/api/v1/jobs", headers=headers).status_code == 200
    for headers in ({"Authorization": "Bearer memo_wrong"}, basic("wrong"), {"apikey": ""}, {"apikey": "0000000000"}):
        answer = client.get("/api/v1/jobs", headers=headers)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer realm=")


def test_without_a_key_only_public_routes_respond(guarded):
    client = guarded.test_client()
    answer = client.get("/api/v1/jobs")
    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
    assert client.post("/api/v1/jobs", json=FOX).status_code == 401 == client.get("/nowhere").status_code
    assert client.get("/healthz").status_code == 503 and static_status(client) == 200
    assert client.get("/sign-in").status_code == 200
    page = client.get("/gallery?q=fox", headers={"Accept": "text/html"})
    assert (page.status_code, page.location) == (302, "/sign-in?next=/gallery?q%3Dfox")


def test_every_public_endpoint_exists(guarded):
    assert set(PUBLIC_ENDPOINTS) <= {rule.endpoint for rule in guarded.url_map.iter_rules()}


@pytest.mark.parametrize(
    ("server", "client", "status"),
    [
        ("127.0.0.1", "127.0.0.1", 200),
        ("::1", "::1", 200),
        ("0.0.0.0", "127.0.0.1", 401),
        ("10.0.0.7", "10.0.0.8", 401),
        ("localhost", "", 401),
        ("127.0.0.1", "10.0.0.8", 401),
    ],
)
def test_auto_requires_a_key_unless_client_and_server_are_this_machine(app: Flask, server, client, status):
    addresses = {"SERVER_NAME": server, "REMOTE_ADDR": client}
    assert app.test_client().get("/api/v1/models", environ_overrides=addresses).status_code == status


@pytest.mark.parametrize(
    "host", ["localhost:8000", "LOCALHOST", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "a.localhost"]
)
def test_auto_requires_no_key_under_a_local_host_name(app: Flask, host):
    assert app.test_client().get("/api/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8000"},
        {"Host": "localhost.evil.example"},
        {"Host": "evillocalhost"},
        {"Host": "10.0.0.7"},
        {"Host": "[::1"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        *({name: "127.0.0.1"} for name in ("X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Remote-Addr")),
        *({f"X-Forwarded-{name}": "https"} for name in ("Host", "Proto", "Port", "Server", "Prefix", "Ssl")),
        {"Via": "1.1 proxy"},
        {"CDN-Loop": "cloudflare"},
        {"X-Original-Host": "example.com"},
    ],
)
def test_auto_requires_a_key_from_foreign_pages_and_proxies_and_says_why(app: Flask, serve, headers):
    client = app.test_client()
    refused = client.get("/api/v1/models", headers=headers)
    assert refused.status_code == 401 and "WEB_KEYS=off" in refused.json["detail"]
    assert "WEB_KEYS=off" in client.get("/sign-in", headers=headers).text
    strict = serve(keys="required").test_client()
    assert "WEB_KEYS" not in strict.get("/sign-in").text + strict.get("/api/v1/models").text
    assert serve(keys="off").test_client().get("/api/v1/models", headers=headers).status_code == 200


def test_a_key_that_is_sent_on_this_machine_counts(app: Flask, keys, queue):
    """Its holder asks in a scope of their own, though nobody needs a key."""
    holder, key = keys.add("ada")
    client = app.test_client()
    for headers in ({"Authorization": f"Bearer {key}"}, basic(key), {"apikey": key}):
        job = queue.job_store.jobs.find(client.post("/api/v1/jobs", json=FOX, headers=headers).json["id"])
        assert (job.scope, job.user) == (holder.scope, "ada")
        assert client.get("/metrics", headers=headers).status_code == 403
    assert queue.job_store.jobs.find(client.post("/api/v1/jobs", json=FOX).json["id"]).scope == "shared"


def test_an_unknown_key_is_refused_on_this_machine_too(app: Flask, keys):
    _, key = keys.add("ada")
    client = app.test_client()
    for headers in ({"Authorization": f"Bearer {key}x"}, basic("memo_wrong"), {"apikey": key[:-1]}):
        refused = client.post("/api/v1/jobs", json=FOX, headers=headers)
        assert refused.status_code == 401 and "not valid" in refused.json["detail"]
    keys.remove("ada")
    assert client.get("/api/v1/jobs", headers={"apikey": key}).status_code == 401


@pytest.mark.parametrize("text", ["any", "sk-no-key-required", "0000000000", "EMPTY", ""])
def test_a_placeholder_that_clients_send_is_no_key_on_this_machine(app: Flask, text):
    client = app.test_client()
    for headers in ({"Authorization": f"Bearer {text}"}, basic(text), {"apikey": text}):
        assert client.get("/metrics", headers=headers).status_code == 200


def test_a_trusted_proxy_lets_nobody_in_without_a_key(serve):
    client = serve(keys="auto", proxies="1").test_client()
    assert client.get("/api/v1/models", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401


def test_off_requires_no_key_anywhere(serve):
    client = serve(keys="off").test_client()
    assert client.get("/metrics", environ_overrides={"SERVER_NAME": "0.0.0.0"}).status_code == 200
    assert client.get("/sign-in").status_code == 302
    assert client.post("/sign-out").status_code == 303


@pytest.mark.parametrize("path", ["/metrics", "/audit", "/api/v1/labels", "/api/v1/stats"])
def test_data_about_all_users_is_for_admins_only(guarded, client_for, path):
    assert client_for(guarded, "ada").get(path).status_code == 403
    assert client_for(guarded, "root", role="admin").get(path).status_code == 200


def test_the_session_cookie_is_hidden_from_scripts_and_other_sites(signed_in, guarded, keys):
    assert "HttpOnly" in signed_in.session_cookie and "SameSite=Lax" in signed_in.session_cookie
    assert "Secure" not in signed_in.session_cookie and "memo_" not in signed_in.session_cookie
    _, key = keys.add("grace")
    browser = guarded.test_client()
    token = re.search(FIELD, browser.get("/sign-in", base_url="https://localhost").text)[1]
    form = {"key": key, "csrf_token": token}
    assert "Secure" in browser.post("/sign-in", data=form, base_url="https://localhost").headers["Set-Cookie"]


def test_over_https_no_other_host_of_the_domain_can_set_our_cookies(guarded, keys):
    _, key = keys.add("ada")
    secure, browser = {"base_url": "https://localhost"}, guarded.test_client()
    assert sign_in(browser, key, **secure).headers["Set-Cookie"].startswith("__Host-session=")
    page = browser.get("/", **secure)
    cookies = {text.split("=")[0]: text for text in page.headers.getlist("Set-Cookie")}
    assert page.status_code == 200 and set(cookies) == {"__Host-session", "__Host-visitor"}
    for cookie in cookies.values():
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; ")) and "Domain" not in cookie


def test_a_browser_stores_nothing_that_it_could_show_after_signing_out(signed_in, app):
    for path in ("/", "/gallery", "/api/v1/jobs", "/api/v1/pictures", "/jobs/0", "/sign-in", "/gallery/new"):
        assert signed_in.get(path).headers["Cache-Control"] == "no-store", path
    assert app.test_client().get("/gallery").headers.get("Cache-Control") is None
    with signed_in.get("/static/style.css") as file:
        assert file.headers["Cache-Control"] == "no-cache"


def test_https_reported_by_a_trusted_proxy_makes_the_cookie_secure(serve, keys):
    headers = {"X-Forwarded-Proto": "https"}
    for proxies, secure in (("0", False), ("1", True)):
        answer = serve(proxies=proxies).test_client().get("/sign-in", headers=headers)
        assert ("Secure" in answer.headers["Set-Cookie"]) is secure


def test_a_session_lasts_until_sign_out(signed_in):
    page = signed_in.get("/")
    assert page.status_code == 200 and "Sign out" in page.text
    token = re.search(TOKEN, page.text)[1]
    assert signed_in.post("/sign-out", data={"csrf_token": token}).location == "/sign-in"
    assert signed_in.get("/api/v1/jobs").status_code == 401


def test_signing_out_ends_every_copy_of_the_cookie(signed_in, guarded):
    copy = guarded.test_client()
    copy.set_cookie("session", signed_in.get_cookie("session").value)
    assert copy.get("/api/v1/jobs").status_code == 200
    signed_in.post("/sign-out", data={"csrf_token": re.search(TOKEN, signed_in.get("/").text)[1]})
    assert copy.get("/api/v1/jobs").status_code == 401


def test_signing_out_in_one_browser_leaves_the_others_signed_in(signed_in, guarded, keys):
    _, key = keys.add("grace")
    browsers = [guarded.test_client() for _ in range(2)]
    for browser in browsers:
        sign_in(browser, key)
    browsers[0].post("/sign-out", data={"csrf_token": re.search(TOKEN, browsers[0].get("/").text)[1]})
    assert [browser.get("/api/v1/jobs").status_code for browser in (*browsers, signed_in)] == [401, 200, 200]


def sign_in(browser, key, **options):
    token = re.search(FIELD, browser.get("/sign-in", **options).text)[1]
    return browser.post("/sign-in", data={"key": key, "csrf_token": token}, **options)


def test_what_redis_holds_opens_no_session(signed_in, guarded, keys, job_store):
    """Whoever reads its files knows the secret that signs cookies, and still has no session's id."""
    redis, prefix = job_store.connection.redis, job_store.connection.prefix
    [session] = [name.removeprefix(prefix + "session:") for name in redis.keys(prefix + "session:*")]
    signer = guarded.session_interface.get_signing_serializer(guarded)
    for value in (session, *redis.hkeys(prefix + "keys")):
        forger = guarded.test_client()
        forger.set_cookie("session", signer.dumps({"id": value, "key": value}))
        assert forger.get("/api/v1/jobs").status_code == 401


def test_a_session_ends_thirty_days_after_it_was_last_used(signed_in, job_store):
    redis, prefix = job_store.connection.redis, job_store.connection.prefix
    [session] = redis.keys(prefix + "session:*")
    redis.expire(session, 5 * 86400)
    assert signed_in.get("/api/v1/jobs").status_code == 200 and redis.ttl(session) > 29 * 86400
    redis.delete(session)
    assert signed_in.get("/api/v1/jobs").status_code == 401


@pytest.mark.parametrize("path", ["/gallery/events", "/api/v1/jobs/JOB/events"])
@pytest.mark.parametrize("end", ["key removed", "signed out"])
def test_an_open_stream_ends_with_its_key_and_with_its_session(signed_in, keys, job_store, monkeypatch, path, end):
    monkeypatch.setattr("web.limits.long_requests.RECHECK_SECONDS", 0.0)
    monkeypatch.setattr("web.pages.gallery.HEARTBEAT_SECONDS", 0.2)
    token = re.search(TOKEN, signed_in.get("/").text)[1]
    job = signed_in.post("/api/v1/jobs", json=FOX, headers={"X-CSRF-Token": token}).json["id"]
    stream = signed_in.get(path.replace("JOB", job))
    next(stream.response)
    if end == "key removed":
        keys.remove("ada")
    else:
        signed_in.post("/sign-out", data={"csrf_token": token})
    job_store.submissions.cancel(job)  # news, which must not arrive
    assert list(itertools.islice(stream.response, 3)) == []
    stream.close()


@pytest.mark.parametrize("path", ["/gallery/events", "/api/v1/jobs/JOB/events"])
def test_an_open_stream_ends_with_the_key_that_was_sent(guarded, client_for, keys, job_store, monkeypatch, path):
    monkeypatch.setattr("web.limits.long_requests.RECHECK_SECONDS", 0.0)
    monkeypatch.setattr("web.pages.gallery.HEARTBEAT_SECONDS", 0.2)
    ada = client_for(guarded, "ada")
    job = ada.post("/api/v1/jobs", json=FOX).json["id"]
    stream = ada.get(path.replace("JOB", job))
    next(stream.response)
    keys.remove("ada")
    job_store.submissions.cancel(job)  # news, which must not arrive
    assert list(itertools.islice(stream.response, 3)) == []
    stream.close()


def test_a_stream_goes_on_while_its_key_is_valid(guarded, client_for, monkeypatch):
    monkeypatch.setattr("web.limits.long_requests.RECHECK_SECONDS", 0.0)
    monkeypatch.setattr("web.pages.gallery.HEARTBEAT_SECONDS", 0.1)
    stream = client_for(guarded, "ada").get("/gallery/events")
    assert [next(stream.response) for _ in range(3)][1:] == [b": still here\n\n"] * 2
    stream.close()


def test_removing_a_key_ends_its_sessions(signed_in, keys):
    assert signed_in.get("/api/v1/jobs").status_code == 200
    keys.remove("ada")
    assert signed_in.get("/api/v1/jobs").status_code == 401


def test_a_wrong_key_is_reported_on_the_page_and_not_repeated(guarded):
    browser = guarded.test_client()
    token = re.search(FIELD, browser.get("/sign-in").text)[1]
    answer = browser.post("/sign-in", data={"key": "memo_wrong", "csrf_token": token})
    assert answer.status_code == 401 and 'aria-invalid="true"' in answer.text and "memo_wrong" not in answer.text


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:0", "x"]
)
def test_signing_in_never_redirects_to_another_site(guarded, target):
    page = guarded.test_client().get("/sign-in", query_string={"next": target}).text
    assert 'name="next" value="/"' in page


def test_another_site_cannot_use_a_session(signed_in, guarded):
    token = re.search(TOKEN, signed_in.get("/").text)[1]
    for headers in ({}, {"X-CSRF-Token": "wrong"}):
        assert signed_in.post("/api/v1/jobs", json=FOX, headers=headers).status_code == 403
    assert signed_in.post("/", data=FOX).status_code == 403
    assert signed_in.post("/api/v1/jobs", json=FOX, headers={"X-CSRF-Token": token}).status_code == 202
    assert signed_in.post("/", data={**FOX, "csrf_token": token}).status_code == 303
    assert guarded.test_client().post("/sign-in", data={"key": "x"}).status_code == 403


CHANGES = [
    ("/", {"data": FOX}),
    ("/api/v1/jobs", {"json": FOX}),
    ("/api/v1/init-images", {"data": b"x", "content_type": "text/plain"}),
    ("/v1/images/edits", {"data": {"prompt": "a fox"}}),
    ("/sdapi/v1/interrupt", {}),
]
FOREIGN_ORIGINS = ("http://evil.example", "null", "http://localhost.evil.example", "http://localhost:81", "http://[")


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize(("path", "body"), CHANGES, ids=[path for path, _ in CHANGES])
def test_a_page_of_another_site_changes_nothing_even_if_the_browser_sends_no_sec_fetch_site(app, path, body, origin):
    client = app.test_client()
    assert client.post(path, **body, headers={"Origin": origin}).status_code == 403
    for headers in ({"Origin": "http://localhost"}, {"Origin": origin, "Sec-Fetch-Site": "same-origin"}, {}):
        assert client.post(path, **body, headers=headers).status_code != 403


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("memo.example:8443", "https://memo.example:8443", 200),
        ("memo.example", "https://memo.example", 200),
        ("memo.example:443", "https://Memo.example", 200),
        ("memo.example:8443", "https://memo.example", 403),
    ],
)
def test_an_origin_is_compared_with_the_host_and_port_that_the_request_addresses(serve, host, origin, status):
    client = serve(keys="off").test_client()
    answer = client.post("/sdapi/v1/interrupt", headers={"Host": host, "Origin": origin})
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/gallery/events", "/api/v1/jobs/JOB/events"])
def test_a_page_of_another_site_holds_no_stream_open(app, path):
    path = path.replace("JOB", app.test_client().post("/api/v1/jobs", json=FOX).json["id"])
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://x.example"},
    ):
        assert app.test_client().get(path, headers=headers).status_code == 403
    with app.test_client().get(path, headers={"Sec-Fetch-Site": "same-origin"}) as answer:
        assert answer.status_code == 200


def test_a_request_with_a_key_needs_no_csrf_token(guarded, client_for):
    assert client_for(guarded, "ada").post("/api/v1/jobs", json=FOX).status_code == 202


def test_every_form_has_the_csrf_token():
    for file in (ROOT / "web" / "templates").glob("*.html"):
        forms = re.findall(r"<form\b.*?</form>", file.read_text(), re.S)
        bare = [form[:90] for form in forms if 'method="post"' in form and not re.search("csrf_(field|token)", form)]
        assert not bare, file.name


def test_web_processes_share_the_secret_that_signs_sessions(signed_in, serve):
    cookie = signed_in.get_cookie("session").value
    other = serve().test_client()
    other.set_cookie("session", cookie)
    assert other.get("/api/v1/jobs").status_code == 200
    stranger = serve(secret="another").test_client()
    stranger.set_cookie("session", cookie)
    assert stranger.get("/api/v1/jobs").status_code == 401


def test_the_rate_limit_counts_requests_per_key(serve, client_for):
    app = serve(rate="2/hour")
    ada, grace = client_for(app, "ada"), client_for(app, "grace")
    assert [ada.post("/api/v1/jobs", json=FOX).status_code for _ in range(3)] == [202, 202, 429]
    refused = ada.post("/api/v1/jobs", json=FOX)
    assert 0 < int(refused.headers["Retry-After"]) <= 3600 and "2 per 1 hour" in refused.json["detail"]
    assert ada.get("/api/v1/jobs").status_code == 200 and grace.post("/api/v1/jobs", json=FOX).status_code == 202


def test_the_daily_limit_counts_pictures_per_key(serve, client_for):
    app = serve(daily="3")
    ada, grace = client_for(app, "ada"), client_for(app, "grace", daily=1)
    counts = [ada.post("/api/v1/jobs", json={**FOX, "count": count}).status_code for count in (2, 2, 1, 1)]
    assert counts == [202, 429, 202, 429]
    assert [grace.post("/api/v1/jobs", json=FOX).status_code for _ in range(2)] == [202, 429]
    bad = app.test_client().post("/api/v1/jobs", json={**FOX, "steps": 0})
    assert bad.status_code == 401


def test_a_variation_counts_towards_the_limits(serve, client_for):
    ada = client_for(serve(daily="2"), "ada")
    job = ada.post("/api/v1/jobs", json=FOX).json["id"]
    assert [ada.post(f"/api/v1/jobs/{job}/variation").status_code for _ in range(2)] == [202, 429]


def test_an_invalid_request_does_not_count(serve, client_for):
    ada = client_for(serve(daily="1"), "ada")
    assert ada.post("/api/v1/jobs", json={**FOX, "steps": 0}).status_code == 422
    assert ada.post("/api/v1/jobs", json=FOX).status_code == 202


SIZE = {"width": 64, "height": 64}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/jobs", {**FOX, "count": 8}),
        ("/v1/images/generations", {"prompt": FOX["prompt"], "size": "64x64", "n": 10}),
        ("/sdapi/v1/txt2img", {**FOX, "batch_size": 8, "n_iter": 2}),
        ("/api/v2/generate/async", {"prompt": FOX["prompt"], "params": {**SIZE, "n": 8}}),
    ],
)
def test_a_request_that_fails_halfway_is_cancelled_and_does_not_count(serve, client_for, queue, path, body):
    ada = client_for(serve(queue_cap="3", daily="16", rate="1/hour"), "ada")
    assert ada.post(path, json=body).status_code == 503
    assert {job.state for job in queue.job_store.jobs.recent(9)} == {
        State.CANCELLED
    } and queue.job_store.statistics.count_queued() == 0
    assert ada.post("/api/v1/jobs", json={**FOX, "count": 3}).status_code == 202


def test_a_request_that_loses_a_race_for_the_daily_limit_is_cancelled_entirely(serve, client_for, queue, monkeypatch):
    app = serve(daily="2")
    monkeypatch.setattr(app.extensions["limits"].limiter.limiter, "test", lambda *_, **__: True)
    ada = client_for(app, "ada")
    assert ada.post("/api/v1/jobs", json={**FOX, "count": 3}).status_code == 429
    assert {job.state for job in queue.job_store.jobs.recent(9)} == {State.CANCELLED}


def test_a_variation_refused_by_a_full_queue_does_not_count(serve, client_for, queue):
    ada = client_for(serve(queue_cap="1", daily="2"), "ada")
    job = ada.post("/api/v1/jobs", json=FOX).json["id"]
    assert ada.post(f"/api/v1/jobs/{job}/variation").status_code == 503
    queue.job_store.submissions.cancel(job)
    assert ada.post(f"/api/v1/jobs/{job}/variation").status_code == 202


def test_a_full_queue_refuses_paintings_but_memory_still_answers(serve, client_for, queue, working, painter):
    ada = client_for(serve(queue_cap="1"), "ada", scope="shared")
    first = ada.post("/api/v1/jobs", json=FOX).json["id"]
    wait_for(lambda: ada.get(f"/api/v1/jobs/{first}").json["picture"])
    painter.go_on.clear()
    busy, waiting, refused = (request_while_busy(ada, queue, f"{n} cats") for n in ("two", "three", "four"))
    remembered = ada.post("/api/v1/jobs", json=FOX)
    painter.go_on.set()
    assert (busy.status_code, waiting.status_code, refused.status_code) == (202, 202, 503)
    assert int(refused.headers["Retry-After"]) > 0 and remembered.status_code == 200


def request_while_busy(client, queue, prompt):
    """Request a picture. When this returns, the first painting has started."""
    answer = client.post("/api/v1/jobs", json={**FOX, "prompt": prompt})
    wait_for(lambda: queue.job_store.connection.redis.zcard(queue.job_store.connection.prefix + "leases"))
    return answer


def test_requests_pass_while_the_rate_limiter_does_not_respond_and_are_counted_as_errors(
    serve, client_for, unused_port
):
    app = serve(rate="1/hour", limits=f"redis://127.0.0.1:{unused_port}/0")
    ada = client_for(app, "ada")
    assert [ada.post("/api/v1/jobs", json=FOX).status_code for _ in range(2)] == [202, 202]
    figures = client_for(app, "root", role="admin").get("/metrics").text
    assert "memoaized_rate_limiter_errors_total 4.0" in figures


def test_nobody_gets_in_while_keys_cannot_be_read(guarded, unused_port):
    guarded.extensions["api_keys"] = ApiKeys(open_job_store(f"redis://127.0.0.1:{unused_port}/0").connection)
    client = guarded.test_client()
    assert client.get("/api/v1/jobs", headers={"apikey": "memo_x"}).status_code == 503
    assert client.get("/sign-in").status_code == 503 and static_status(client) == 200


def test_only_admins_may_name_another_user(guarded, client_for):
    ada, root = client_for(guarded, "ada"), client_for(guarded, "root", role="admin")
    refused = ada.post("/api/v1/jobs", json={**FOX, "user": "grace"})
    assert refused.status_code == 422 and refused.json["field"] == "user"
    assert ada.post("/api/v1/jobs", json={**FOX, "user": "ada"}).status_code == 202
    assert root.post("/api/v1/jobs", json={**FOX, "user": "grace"}).status_code == 202


@pytest.mark.parametrize(
    "setting",
    [
        {"keys": "yes"},
        {"proxies": "-1"},
        {"rate": "often"},
        {"daily": "many"},
        {"queue_cap": "1.5"},
        {"queue_cap": ""},
        {"policy": "nearest"},
    ],
)
def test_an_invalid_setting_is_refused_and_named(setting):
    [name] = setting
    with pytest.raises(BadSetup, match=f"WEB_{name.upper()}"):
        WebConfig.from_env({f"WEB_{name.upper()}": setting[name]})


def test_the_secret_can_be_read_from_a_file(tmp_path):
    (tmp_path / "secret").write_text("s3cret\n")
    assert WebConfig.from_env({"WEB_SECRET_FILE": str(tmp_path / "secret")}).secret == "s3cret"


def test_the_command_adds_lists_and_removes_keys(redis_url, keys, monkeypatch):
    monkeypatch.setenv("JOBS_REDIS", redis_url)
    run = CliRunner().invoke
    added = run(main, ["key", "add", "ada", "--role", "admin", "--scope", "shared", "--daily", "7"])
    assert added.exit_code == 0, added.output
    holder = keys.find(added.stdout.strip())
    assert (holder.name, holder.role, holder.scope, holder.daily) == ("ada", "admin", "shared", 7)
    listed = run(main, ["key", "list"])
    assert re.search(r"^ada +admin +shared +7 ", listed.output, re.M) and added.stdout.strip() not in listed.output
    assert run(main, ["key", "add", "ada"]).exit_code == 1
    assert run(main, ["key", "remove", "ada"]).exit_code == 0 and keys.all() == []
    assert run(main, ["key", "remove", "ada"]).output.startswith("Error: there is no API key of 'ada'")


def test_the_command_finds_the_redis_of_a_data_folder(session_redis, keys, monkeypatch):
    monkeypatch.delenv("JOBS_REDIS", raising=False)
    data = session_redis.plan.folder.parent
    assert CliRunner().invoke(main, ["key", "add", "ada", "--data", str(data)]).exit_code == 0
    assert [holder.name for holder in keys.all()] == ["ada"]
    missing = CliRunner().invoke(main, ["key", "list", "--data", str(data / "nothing")])
    assert missing.exit_code == 1 and "memoaized up" in missing.output


def test_a_long_address_to_go_on_to_is_not_read(guarded):
    marks = "//" + "\u0301" * 12_000 + "\u0316" * 12_000  # takes 2 s to read
    started = time.process_time()
    guarded.test_client().post(
        "/sign-in", data={"key": "memo_wrong", "next": marks}, content_type="multipart/form-data"
    )
    assert time.process_time() - started < 1
