"""The jobs and paintings in Redis: who asked for what, what is being painted, by which worker, how far it is.

Every change is one atomic script or transaction, so that web and worker processes may die between any two lines.
Knows Redis; nothing of Celery, painting or HTTP.
"""

from .backlog import Backlog
from .claims import Claims
from .connection import Connection, open_connection
from .heartbeats import Heartbeats
from .progress import ProgressReports
from .received import ReceivedPictures
from .requests import Requests
from .snapshots import Snapshots
from .statistics import Statistics
from .submissions import Submissions


class JobStore:
    """The parts of the store, each named after what it does. Their methods raise Unavailable without Redis."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.submissions = Submissions(connection)
        self.claims = Claims(connection)
        self.progress = ProgressReports(connection)
        self.jobs = Snapshots(connection)
        self.statistics = Statistics(connection)
        self.heartbeats = Heartbeats(connection)
        self.backlog = Backlog(connection)
        self.requests = Requests(connection)
        self.received = ReceivedPictures(connection)


def open_job_store(url: str) -> JobStore:
    """A store at a redis-py URL (redis://, rediss:// or unix://); connects on first use."""
    return JobStore(open_connection(url))
