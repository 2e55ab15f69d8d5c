"""The place of a call among the replicas of a step, for TensorFlow."""

import tensorflow as tf

from keras_convnext.distribution.replicas import Place


def current_place() -> Place | None:
    """Returns the place of the current call; `None` if it has all images of the step."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    process, processes = worker_of(context.strategy)
    replicas = context.num_replicas_in_sync // processes
    own = context.replica_id_in_sync_group - process * replicas
    return Place(process, processes, own, replicas)


def worker_of(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """Returns the number of this process, from 0, and the number of processes."""
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict() if resolver else {}
    chiefs, workers = (len(jobs.get(job, ())) for job in ("chief", "worker"))
    if not chiefs + workers:
        return 0, 1
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0), chiefs + workers
