"""The networks of a run as ONNX compute what torch computes, for any number of items."""

import json
import shutil

import numpy as np
import pytest
import torch

import mmvae_cli
from mmvae_cli.export import command
from mmvae_cli.export.command import ExportRequest
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.store.arrays import as_batch


def export(run, data, **options) -> str:
    return command.run([run], ExportRequest("onnx", **options), data_dir=data)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own", "private"])
def test_onnxruntime_computes_what_torch_does(runs, data, tmp_path, name):
    pytest.importorskip("onnxscript", reason="the package onnxscript is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
    run, out = mmvae_cli.open_run(runs[name], data_dir=data, device="cpu"), tmp_path / "onnx"
    assert export(runs[name], data, out=out) == str(out)

    def computed(network: str, **inputs: np.ndarray) -> list[np.ndarray]:
        return runtime.InferenceSession(out / f"{network}.onnx").run(None, inputs)

    generator = np.random.default_rng(0)
    for modality in run.modalities:
        for count in (1, 5):
            given = {modality: run.data("test", range(count))[modality]}
            x = as_batch(given, run.recipe, run.described)[modality]
            encoded = run.model.encode({modality: x})
            parts = [q for q in (encoded.shared, encoded.private) if q is not None]
            experts = [tensor[0].detach().numpy() for q in parts for tensor in (q.mean, q.logvar)]
            for ours, theirs in zip(experts, computed(f"encoder_{modality}", x=x.numpy()), strict=True):
                np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-4)
            z = generator.normal(size=(count, run.model.private_dim + run.model.latent_dim)).astype(np.float32)
            private, shared = torch.from_numpy(z).split([run.model.private_dim, run.model.latent_dim], 1)
            output = run.model.decode(modality, shared, private).detach().numpy()
            np.testing.assert_allclose(computed(f"decoder_{modality}", z=z)[0], output, rtol=1e-3, atol=1e-4)
    about = json.loads((out / "networks.json").read_text())
    assert (about["latent_dim"], about["private_dim"]) == (run.model.latent_dim, run.model.private_dim)
    assert set(about["modalities"]) == set(run.modalities)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx"]
    with pytest.raises(UsageProblem, match="onnx exists"):
        export(runs[name], data, out=out)


def test_without_the_package_the_pip_line_is_told_and_nothing_is_left(runs, data, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    shutil.copytree(runs["own"], tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageProblem, match="--to onnx needs the package onnxscript") as caught:
        export(tmp_path / "run", data)
    assert caught.value.hint == "pip install 'mmvae-cli[onnx]'"
    assert sorted(tmp_path.rglob("*")) == before
