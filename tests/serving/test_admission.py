from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from adaptive.errors import BusyError
from adaptive.serving.admission import Admission, AdmissionMiddleware, Admissions


def test_requests_begin_up_to_the_places_then_wait_then_are_refused():
    admission, begun = Admission(2, 2), []
    for request in "abcd":
        admission.acquire(lambda request=request: begun.append(request))
    assert begun == ["a", "b"]
    assert (admission.busy, len(admission)) == (2, 2)
    with pytest.raises(BusyError, match="2 requests wait already"):
        admission.acquire(lambda: begun.append("e"))
    admission.release(0.1)
    admission.release(0.1)
    assert begun == ["a", "b", "c", "d"]
    admission.release(0.1)
    admission.release(0.1)
    assert (admission.busy, len(admission)) == (0, 0)


def test_queue_of_nothing_refuses_at_once():
    admission = Admission(1, 0)
    admission.acquire(lambda: None)
    with pytest.raises(BusyError):
        admission.acquire(lambda: None)
    admission.release(0.1)
    admission.acquire(lambda: None)
    assert admission.busy == 1


def test_retry_after_is_what_the_queue_takes():
    admission = Admission(2, 7)
    assert admission.retry_after_s() == 1
    for _ in range(9):
        admission.acquire(lambda: None)
    admission.release(4.0)  # the first request tells what one takes
    assert len(admission) == 6
    assert admission.retry_after_s() == 14  # 7 requests, two at a time, 4 s each
    admission.acquire(lambda: None)
    with pytest.raises(BusyError) as caught:
        admission.acquire(lambda: None)
    assert caught.value.retry_after_s == 16


def test_no_request_is_lost_or_begun_twice_among_threads():
    admission = Admission(3, 10_000)
    jobs: SimpleQueue = SimpleQueue()
    ran, most = [], []

    def bring(numbers: range) -> None:
        for number in numbers:
            admission.acquire(lambda number=number: jobs.put(number))

    def work() -> None:
        while (number := jobs.get()) is not None:
            most.append(admission.busy)
            ran.append(number)
            admission.release(0.0)

    workers = [threading.Thread(target=work) for _ in range(3)]
    clients = [
        threading.Thread(target=bring, args=(range(n * 500, n * 500 + 500),)) for n in range(8)
    ]
    for thread in (*workers, *clients):
        thread.start()
    for thread in clients:
        thread.join(30)
    while len(ran) < 4000:
        workers[0].join(0.01)
    for _ in workers:
        jobs.put(None)
    for thread in workers:
        thread.join(30)
    assert sorted(ran) == list(range(4000))
    assert max(most) <= 3
    assert (admission.busy, len(admission)) == (0, 0)


def test_questions_and_loading_have_places_of_their_own():
    admissions = Admissions(2, 5)

    def of(method: str, path: str) -> Admission:
        return admissions.of({"REQUEST_METHOD": method, "PATH_INFO": path})

    assert of("POST", "/v1/classify") is of("POST", "/v2/models/a/infer") is admissions.images
    assert of("GET", "/metrics") is of("HEAD", "/healthz") is admissions.questions
    assert of("POST", "/v2/repository/models/a/load") is admissions.admin
    assert (admissions.images.places, admissions.images.longest) == (2, 5)


def test_middleware_admits_the_threads_of_a_wsgi_server():
    open_, begun = threading.Event(), threading.Semaphore(0)
    told, answers = [], []

    def app(environ, start_response):
        begun.release()
        assert open_.wait(30)
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    def refused(environ, answer):
        told.append((environ["PATH_INFO"], answer.status))
        return (("X-Request-Id", "7"),)

    middleware = AdmissionMiddleware(app, Admissions(1, 1), refused)

    def ask(path: str) -> None:
        said = []
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path}
        body = b"".join(middleware(environ, lambda *line: said.append(line)))
        answers.append((said[0][0], dict(said[0][1]), body))

    clients = [threading.Thread(target=ask, args=(path,)) for path in ("/first", "/second")]
    clients[0].start()
    assert begun.acquire(timeout=30)
    clients[1].start()
    while not len(middleware.admissions.images):
        clients[1].join(0.01)
    ask("/third")
    status, headers, _ = answers.pop()
    assert status == "503 Service Unavailable"
    assert (headers["Retry-After"], headers["X-Request-Id"]) == ("1", "7")
    assert told == [("/third", 503)]
    open_.set()
    for client in clients:
        client.join(30)
    assert [body for _, _, body in answers] == [b"/first", b"/second"]
    assert middleware.admissions.images.busy == 0
