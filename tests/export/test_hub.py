"""A run shared as a folder: whole without the machine it came from, opened anywhere, refused where it is odd."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import mmvae_cli
from mmvae_cli.evaluation import command as evaluate
from mmvae_cli.export import command
from mmvae_cli.export.command import ExportRequest
from mmvae_cli.export.hub import _asked
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.recipe import load
from mmvae_cli.run import checkpoint, result, shared
from mmvae_cli.run.layout import Run
from mmvae_cli.sampling import command as sample
from mmvae_cli.sampling.figures import FigureRequest


def measure(run: Path, data: Path, out: Path | None = None):
    _, found = evaluate.run(run, metrics=["latent", "likelihood"], protocol=None, chosen=None, data_dir=data,
                            device="cpu", force=False, verify=False, out=out)  # fmt: skip
    return found


def export(run: Path, data: Path, out: Path, **more) -> str:
    return command.run([run], ExportRequest("hub", out, **more), data_dir=data)


@pytest.fixture(scope="session")
def measured(runs, data, tmp_path_factory) -> Path:
    """A run with an evaluation, a figure, and an environment that names the machine."""
    run = tmp_path_factory.mktemp("measured") / "mine"
    shutil.copytree(runs["private"], run)
    fingerprint = measure(run, data).dataset.fingerprint
    Run(run).set_environment({"host": "secret-host", "command": ["/home/me/x"], "device": "cpu",
                              "dataset": {"folder": "/home/me/data", "fingerprint": fingerprint}})  # fmt: skip
    Run(run).set_status("finished", epoch=3, step=4)
    Run(run).figures.mkdir()
    (Run(run).figures / "prior.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return run


@pytest.fixture
def hub(measured, data, tmp_path) -> Path:
    out = tmp_path / "shared"
    assert export(measured, data, out) == str(out)
    return out


def test_it_is_opened_on_another_path_with_an_equal_evaluation(measured, hub, data, tmp_path):
    moved = tmp_path / "far" / "away"
    shutil.copytree(hub, moved)
    shutil.rmtree(hub)
    before = result.load(Run(measured).evaluation_path())
    assert result.load(Run(moved).evaluation_path()) == before
    again = measure(moved, data, tmp_path / "again")
    assert (again.latent, again.likelihood) == (before.latent, before.likelihood)


def test_it_holds_what_it_should_and_nothing_of_the_machine(hub):
    files = sorted(path.relative_to(hub).as_posix() for path in hub.rglob("*") if path.is_file())
    assert files == ["README.md", "checkpoints/step-00000004.safetensors", "dataset.json", "environment.json",
                     "evaluation.json", "figures/prior.png", "recipe.yaml", "status.json"]  # fmt: skip
    assert all(name.startswith("model.") for name in checkpoint.load(next(hub.glob("checkpoints/*"))).tensors)
    text = b"".join(path.read_bytes() for path in hub.rglob("*") if path.is_file())
    assert not any(word in text for word in (b"secret-host", b"/home/me", str(hub).encode() + b"/"))


def test_it_generates_without_its_data(hub, tmp_path):
    run = mmvae_cli.open_run(hub, data_dir=tmp_path / "nowhere", device="cpu")
    assert run.generate(count=2)["m0"].shape == (2, 3, 8, 8)
    assert run.encode({"text": ["one"]}).mean.shape == (1, 6)
    assert run.evaluation.run.step == 4
    with pytest.raises(DataProblem, match=r"test/m0\.npy is missing"):
        run.latents("test")


def drawn(hub: Path, data: Path, out: Path, kind: str = "prior") -> dict:
    return sample.run(hub, FigureRequest(kind), count=2, seed=0, chosen=None, out=out, force=False, data_dir=data,
                      device="cpu", verify=True)  # fmt: skip


def test_it_is_sampled_without_its_data_and_by_the_command_too(hub, data, tmp_path):
    without = drawn(hub, tmp_path / "nowhere", tmp_path / "without")
    assert without["fingerprint"] == drawn(hub, data, tmp_path / "with")["fingerprint"]
    picture = [(tmp_path / folder / "random_m0.png").read_bytes() for folder in ("without", "with")]
    assert picture[0] == picture[1]
    with pytest.raises(DataProblem, match="no dataset at"):
        drawn(hub, tmp_path / "nowhere", tmp_path / "more", "conditional")


def changed(description: Path) -> None:
    """As by a user, who takes the seal out."""
    content = json.loads(description.read_text())
    del content["sha256"]
    content["splits"]["test"]["count"] += 1
    description.write_text(json.dumps(content))


def test_a_description_that_was_changed_is_told(hub, tmp_path):
    changed(hub / "dataset.json")
    with pytest.raises(
        DataProblem, match=r"shared/dataset.json describes other data \(\w{16}\) than the run was train"
    ):
        drawn(hub, tmp_path / "nowhere", tmp_path / "out")


def test_data_that_are_not_those_of_the_run_say_what_differs(hub, data, tmp_path):
    shutil.copytree(data / "digits", tmp_path / "data" / "digits")
    changed(tmp_path / "data" / "digits" / "dataset.json")
    with pytest.raises(DataProblem, match=r"data/digits now holds; they differ in splits.test.count\n") as caught:
        drawn(hub, tmp_path / "data", tmp_path / "out")
    assert f"as {hub / 'dataset.json'} says" in caught.value.hint


def test_what_is_exported_into_it_leaves_it_a_shared_run(hub, data):
    for name in ("latents.test.h5ad", "onnx/encoder_m0.onnx", "tensorboard/events.out.tfevents.1.host"):
        (hub / name).parent.mkdir(exist_ok=True)
        (hub / name).write_bytes(b"")
    assert mmvae_cli.open_run(hub, data_dir=data, device="cpu").step == 4


def test_its_weights_cannot_be_trained_on_and_say_so(hub):
    from torch import optim

    from mmvae_cli.model.vae import MultimodalVAE

    model = MultimodalVAE(Run(hub).recipe())
    with pytest.raises(DataProblem, match="weights without the optimiser's state"):
        checkpoint.newest(Run(hub)).load_optimizer(optim.Adam(model.parameters()), model)


def test_the_card_has_tables_protocol_and_commands_that_can_be_typed(hub, measured):
    text = (hub / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    found = result.load(Run(measured).evaluation_path())
    assert head["library_name"] == "mmvae"
    values = {metric["type"]: metric["value"] for metric in head["model-index"][0]["results"][0]["metrics"]}
    assert values["latent_classification"] == found.latent.values["m0+m1+text"]
    assert "stand-in: random pixels" in text
    assert "latent representation (accuracy)" in text
    assert all(f"`{name}`" in text for name in found.settings)
    assert f"mmvae evaluate --ckpt {hub} --protocol default --metrics latent,likelihood --data-dir data" in text
    otherwise = found.model_copy(update={"settings": found.settings | {"items": 150, "latent_samples": 100}})
    assert _asked(otherwise, Run(measured).recipe()) == " --items 150 --latent-samples 100"
    assert load(str(hub / "recipe.yaml"), []) == Run(measured).recipe()  # mmvae train recipe.yaml
    assert "![prior.png](figures/prior.png)" in text


# what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["model.py", "weights.pkl", "run.sh", "checkpoints/x.bin", "code.ipynb", "figures/code.py", "code.pyc"]
)
def test_what_could_be_executed_is_refused(hub, data, name):
    (hub / name).write_bytes(b"import os")
    for use in (lambda: mmvae_cli.open_run(hub, data_dir=data), lambda: measure(hub, data)):
        with pytest.raises(DataProblem, match="nothing that could be executed"):
            use()


def test_code_of_a_run_that_has_no_networks_of_its_own_is_refused(hub, data):
    (hub / "code.py").write_bytes(b"import os")
    with pytest.raises(DataProblem, match=r"code.py is not the code that environment.json names by its SHA-256"):
        mmvae_cli.open_run(hub, data_dir=data)


def test_a_link_out_of_it_is_refused(hub, data, tmp_path):
    (tmp_path / "elsewhere.json").write_text("{}")
    (hub / "more.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(DataProblem, match="link out of the shared run"):
        mmvae_cli.open_run(hub, data_dir=data)


def test_a_linked_folder_is_refused(hub, data, tmp_path):
    (hub / "more").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(DataProblem, match="more is a link out of the shared run"):
        mmvae_cli.open_run(hub, data_dir=data)


def test_an_out_that_is_a_file_is_left_alone(measured, data, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageProblem, match="is no shared run; it is left alone"):
        export(measured, data, tmp_path / "out", force=True)


@pytest.mark.parametrize("name", ["recipe.yaml", "checkpoints/step-00000004.safetensors", "dataset.json"])
def test_a_damaged_file_is_refused(hub, tmp_path, name):
    content = bytearray((hub / name).read_bytes())
    content[len(content) * 2 // 3] ^= 1
    (hub / name).write_bytes(bytes(content))
    with pytest.raises(DataProblem):
        mmvae_cli.open_run(hub, data_dir=tmp_path / "nowhere", device="cpu")


def test_a_folder_that_exists_is_replaced_by_force_and_only_if_it_was_shared(measured, hub, data, tmp_path):
    with pytest.raises(UsageProblem, match="exists"):
        export(measured, data, hub)
    export(measured, data, hub, force=True)
    with pytest.raises(UsageProblem, match="is no shared run; it is left alone"):
        export(measured, data, data / "digits", force=True)
    assert (data / "digits" / "dataset.json").is_file()


# the hub itself ------------------------------------------------------------------------------------------------------


class Hub(ModuleType):
    """What we use of huggingface_hub, over a folder; without ``folder`` there is no network."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__("huggingface_hub")
        self.folder = folder

    def HfApi(self):
        return self

    def create_repo(self, repository, exist_ok):
        if self.folder is None:
            raise ConnectionError("no route to host\nmore")

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.folder / repo_id)

    def list_repo_files(self, repository, revision):
        if self.folder is None:
            raise ConnectionError("no route to host")
        root = self.folder / repository
        return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]

    def snapshot_download(self, repository, revision, local_dir):
        shutil.copytree(self.folder / repository, local_dir)
        (local_dir / ".cache").mkdir()


@pytest.fixture
def server(tmp_path, monkeypatch):
    def made(folder: Path | None) -> Path:
        monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(folder))
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return made


def test_a_run_goes_to_the_hub_and_comes_back(measured, data, server):
    here = server(measured.parent / "server")
    assert export(measured, data, here / "out", push="me/mine") == "hf://me/mine"
    assert "mmvae evaluate --ckpt hf://me/mine " in (here / "out" / "README.md").read_text()
    run = mmvae_cli.open_run("hf://me/mine", data_dir=data, device="cpu")
    assert run.folder == Path("runs/me--mine")
    assert not (here / "runs/me--mine/.cache").exists()
    assert shared.fetched(Path("hf:/me/mine")) == run.folder  # as the command line has it; no network needed


def test_without_a_network_the_folder_is_whole(measured, data, server):
    here = server(None)
    with pytest.raises(
        Failure, match=r"cannot upload to me/mine \(ConnectionError: no route to host\).*whole"
    ) as caught:
        export(measured, data, here / "out", push="me/mine")
    assert caught.value.hint.endswith(f"hf upload me/mine {here / 'out'}")
    assert mmvae_cli.open_run(here / "out", data_dir=data, device="cpu").step == 4
    with pytest.raises(Failure, match="hf://me/other cannot be fetched"):
        shared.fetched("hf://me/other")
    assert not (here / "runs").exists() or not list((here / "runs").iterdir())


def test_a_repository_that_holds_code_or_no_run_is_not_fetched(server, tmp_path):
    here = server(tmp_path / "server")
    for name, file, message in (("code", "model.py", "could be executed"), ("empty", "README.md", "is no run")):
        (here / "server" / "me" / name).mkdir(parents=True)
        (here / "server" / "me" / name / file).write_text("x")
        with pytest.raises(DataProblem, match=message):
            shared.fetched(f"hf://me/{name}")
        assert not (here / "runs" / f"me--{name}").exists()


@pytest.mark.parametrize("address", ["hf://me", "hf://me/a/b", "hf://", "hf://me/../x"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageProblem, match="is no address of a run"):
        shared.fetched(address)
    assert shared.is_address(Path(address))


def test_without_the_package_the_pip_line_is_told(measured, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    for use in (
        lambda: shared.fetched("hf://me/mine"),
        lambda: export(measured, data, tmp_path / "out", push="me/mine"),
    ):
        with pytest.raises(UsageProblem, match="needs the package huggingface_hub") as caught:
            use()
        assert "pip install 'mmvae-cli[hub]'" in caught.value.hint
    with pytest.raises(UsageProblem, match="no name of a repository"):
        export(measured, data, tmp_path / "other", push="mine")


def test_a_run_without_checkpoint_is_told(runs, data, tmp_path):
    empty = Run(tmp_path / "empty")
    empty.prepare(Run(runs["own"]).recipe())
    with pytest.raises(DataProblem, match="has no checkpoint yet"):
        export(empty.folder, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_dataset_json_describes_the_data_without_their_provenance(hub):
    assert json.loads((hub / "dataset.json").read_text())["provenance"] == {}
