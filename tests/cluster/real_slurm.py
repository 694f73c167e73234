"""A real Slurm on this machine for the length of a test: munged, slurmctld and slurmd as one user on 127.0.0.1."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

CONFIG = """\
ClusterName=mmvaetest
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
JobRequeue=1
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=500000 Gres=gpu:4 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs of Slurm and munge that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


class RealSlurm:
    """The daemons, and commands run against them. ``folder``: config, state and logs, owned by this user alone."""

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self.folder, self.host = folder, socket.gethostname().partition(".")[0]
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _PATH}
        self._daemons: list[subprocess.Popen] = []
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        facts = {"folder": folder, "host": self.host, "user": getpass.getuser(), "cpus": cpus}
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        (folder / "slurm.conf").write_text(CONFIG.format(**facts, **ports))
        for number in range(4):  # what Slurm counts as GPUs; nobody opens them
            (folder / f"gpu{number}").touch()
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)

    def start(self, seconds: float = 60) -> None:
        """Start munged, slurmctld, slurmd; returns when the node can take jobs."""
        parts = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munged.log",
                 "seed-file": "munged.seed"}  # fmt: skip
        self._daemon("munged", "--foreground", "--force", *(f"--{k}={self.folder / v}" for k, v in parts.items()))
        self._until(lambda: (self.folder / "munge.socket").exists(), seconds, "munged")
        self._daemon("slurmctld", "-D", "-i")
        self._until(lambda: self.run("scontrol", "ping", check=False).returncode == 0, seconds, "slurmctld")
        self._daemon("slurmd", "-D", "-N", self.host)
        self._until(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T", check=False).stdout, seconds, "slurmd")

    def stop(self) -> None:
        """End the jobs, then the daemons in reverse order; whatever does not go is killed."""
        self.run("scancel", "--user", getpass.getuser(), check=False)
        deadline = time.monotonic() + 10
        while self.run("squeue", "-h", check=False).stdout.strip() and time.monotonic() < deadline:
            time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(
            list(command), env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def states(self, job: str) -> dict[str, tuple[str, int]]:
        """State and number of restarts of every task of an array, by its number."""
        found = {}
        for block in self.run("scontrol", "show", "job", job).stdout.split("\n\n"):
            facts = dict(part.partition("=")[::2] for part in block.split())
            if "ArrayTaskId" in facts:
                found[facts["ArrayTaskId"]] = (facts["JobState"], int(facts["Restarts"]))
        return found

    def logs(self) -> str:
        """The ends of the daemons' logs, for a failed test."""
        paths = [path for path in sorted(self.folder.glob("*.log")) if path.is_file()]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in paths)

    def _daemon(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.out", "wb") as output:
            self._daemons.append(
                subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            )

    def _until(self, reached, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            dead = [daemon.args[0] for daemon in self._daemons if daemon.poll() is not None]
            assert not dead, f"{dead} ended\n{self.logs()}"
            assert time.monotonic() < deadline, f"{what} did not come up in {seconds} s\n{self.logs()}"
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
