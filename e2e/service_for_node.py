"""Attends to a service on behalf of a Node test: `service_for_node.py NAME SURROUNDINGS`.

The surroundings are JSON: `{"origins": [...], "settings": {"COUNTERSIGN_…": ...}}`. It prints one line of
JSON when the service is ready. Each line that it is sent is JSON too: a text is a secret that the service
must not log; a list is a command of the program, and what that printed is printed as one line of JSON.
When its input ends, be it that the test is done or has died, it stops the service, and fails if the log
has told a secret.
"""

import json
import sys

from service import Service

USERS = {"ana": "correct horse battery staple", "bob": "blue/umbrella+of&bob"}


def main(name, surroundings):
    surroundings = json.loads(surroundings)
    settings = surroundings["settings"]
    with Service.on_free_ports(name, surroundings["origins"], **settings) as service:
        service.create_superuser("ana", USERS["ana"])
        service.add_user("bob", USERS["bob"])
        service.start()
        print(json.dumps({"url": service.url, "passwords": USERS}), flush=True)
        for line in sys.stdin:
            match json.loads(line):
                case list(command):
                    print(json.dumps(service.run(*command)), flush=True)
                case secret:
                    service.must_not_log(secret)
        ended = service.stop()
        if ended != 0:
            sys.exit(f"the service ended with {ended}")
        # The search means something only if the log is there, and talkative.
        if '"login_succeeded"' not in service.log():
            sys.exit(f"{service.log_file} tells of no login")
        if service.leaked():
            sys.exit("the log tells secrets:\n" + "\n".join(service.leaked()))


if __name__ == "__main__":
    main(*sys.argv[1:])
