"""Applies the seccomp profile of a container to itself, then executes the command: container_profile.py PROFILE [--without NAME]... -- COMMAND

The process has no capabilities and uses the architecture of this machine, as under a container runtime."""

import json
import os
import sys

import seccomp

profile, rest = sys.argv[1], sys.argv[2:]
split = rest.index("--")
without, command = set(rest[:split]) - {"--without"}, rest[split + 1 :]
with open(profile) as file:
    rules = json.load(file)

ACTIONS = {"SCMP_ACT_ALLOW": lambda _: seccomp.ALLOW, "SCMP_ACT_ERRNO": lambda rule: seccomp.ERRNO(rule.get("errnoRet", 1))}
OPERATORS = {"SCMP_CMP_NE": seccomp.NE, "SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}

filter = seccomp.SyscallFilter(seccomp.ERRNO(rules["defaultErrnoRet"]))
for rule in rules["syscalls"]:
    arguments = []
    for argument in rule.get("args", []):
        values = [argument["value"]]
        if argument["op"] == "SCMP_CMP_MASKED_EQ":
            values.append(argument.get("valueTwo", 0))
        arguments.append(seccomp.Arg(argument["index"], OPERATORS[argument["op"]], *values))
    for name in rule["names"]:
        if name in without:
            continue
        try:
            seccomp.resolve_syscall(seccomp.Arch(), name)
            filter.add_rule(ACTIONS[rule["action"]](rule), name, *arguments)
        except (ValueError, RuntimeError):
            # Unknown to this architecture or to this version of libseccomp.
            if name.startswith("io_uring"):
                raise
filter.load()
os.execvp(command[0], command)
