"""A Slurm of one node for a test: its own key, folder and ports, nothing of the machine's own cluster, no systemd."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SlurmdParameters=config_overrides
MpiDefault=none
MessageTimeout=100
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=0
ReturnToService=2
KillWait=2
NodeName=one NodeAddr=127.0.0.1 NodeHostname={host} CPUs=4 State=UNKNOWN
PartitionName=all Nodes=one Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """The programs that are not here."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def one_node_slurm(folder: Path):
    """Start it and yield the environment in which its commands find it.

    Raises:
        RuntimeError: it does not come up here, with the last lines of its logs.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    for parent in (folder, *folder.parents):  # munge wants a way to its socket that everybody may go
        with contextlib.suppress(OSError):
            parent.chmod(parent.stat().st_mode | 0o011)
    (folder / "key").write_bytes(secrets.token_bytes(128))
    (folder / "key").chmod(0o400)
    user, host = pwd.getpwuid(os.getuid()).pw_name, socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, user=user, host=host, ports=free_ports(2)))
    env = {"SLURM_CONF": str(configuration), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    munge = [f"--{name}={folder / file}" for name, file in _FILES_OF_MUNGE.items()]
    commands = (["munged", "--foreground", "--force", *munge], ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", "one"])
    started = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("w") as said:
                started.append(
                    subprocess.Popen(command, env=os.environ | env, stdout=said, stderr=said, start_new_session=True)
                )
            _until(lambda: (folder / "munge.socket").exists(), folder)
        _until(lambda: "idle" in _told(["sinfo", "-h", "-o", "%t"], env), folder)
        yield env
    finally:
        _told(["scancel", f"--user={user}"], env)
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
        for process in _left(configuration):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _left(configuration):
    """Processes of jobs and their keepers that outlived this Slurm, and no other."""
    mark = f"SLURM_CONF={configuration}\0".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if int(path.parent.name) != os.getpid() and mark in path.read_bytes() + b"\0":
                yield int(path.parent.name)


_FILES_OF_MUNGE = {
    "key-file": "key",
    "socket": "munge.socket",
    "pid-file": "munge.pid",
    "log-file": "munge.log",
    "seed-file": "munge.seed",
}


def _told(command, env):
    try:
        return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _until(holds, folder, seconds=40):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            said = [line for path in sorted(folder.glob("*.out")) for line in path.read_text().splitlines()[-3:]]
            raise RuntimeError(f"Slurm does not come up here: {' | '.join(said)}")
        time.sleep(0.05)
