"""A scheduler of the PyPI package pymesos, as its users write one: runs one task at MASTER, and says what it was told.

Usage: scheduler.py MASTER IMAGE
"""

import sys

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler

TASK = "of-pymesos"


class OneTask(Scheduler):
    def __init__(self, image):
        self.image = image
        self.is_launched = False

    def registered(self, driver, framework_id, master_info):
        print("registered", bool(framework_id.value), flush=True)

    def resourceOffers(self, driver, offers):
        for offer in offers:
            if self.is_launched:
                driver.declineOffer(offer.id)
                continue
            self.is_launched = True
            task = Dict()
            task.task_id.value = TASK
            task.agent_id.value = offer.agent_id.value
            task.name = "pymesos"
            task.resources = [
                dict(name="cpus", type="SCALAR", scalar={"value": 0.1}),
                dict(name="mem", type="SCALAR", scalar={"value": 32}),
            ]
            task.command.value = "echo hello; exit 3"
            task.container.type = "DOCKER"
            task.container.docker.image = self.image
            driver.launchTasks(offer.id, [task])

    def statusUpdate(self, driver, update):
        print(update.task_id.value, update.state, flush=True)
        if update.state not in ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING"):
            print(update.message, flush=True)
            driver.stop()

    def error(self, driver, message):
        print("error", message, flush=True)
        driver.stop()


def main():
    master, image = sys.argv[1:]
    framework = Dict(user="root", name="pymesos", hostname="localhost")
    driver = MesosSchedulerDriver(OneTask(image), framework, master, use_addict=True)
    driver.run()


main()
