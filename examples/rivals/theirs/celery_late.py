"""The same application as careful users set it: acknowledged after the work, given to another worker after five seconds.

A worker that dies must leave its tasks to others; Celery's default acknowledges before the work, and an hour's wait.
"""

from celery_chord import app

app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 5},
)
