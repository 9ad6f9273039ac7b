"""Workers of a Ray that p2d starts run at the priority of the command, which Ray would lower by 15."""

import os


def test_a_worker_has_the_priority_of_the_command(cluster):
    import ray

    own = ray.get(ray.remote(num_cpus=1)(lambda: os.nice(0)).remote())
    assert own == os.nice(0)
