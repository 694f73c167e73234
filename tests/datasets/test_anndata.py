"""Single cells: what an .h5ad or .h5mu file becomes."""

import sys

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from mmvae_cli import recipe as recipes
from mmvae_cli.cli import app
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import Store
from mmvae_cli.store.fitting import check_store

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning"),
              pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # fmt: skip
anndata = pytest.importorskip("anndata")
CELLS, TYPES = 60, ("B", "NK", "T")


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Counts of three kinds of cells from a low-rank model, proteins beside them."""
    import pandas
    import scipy.sparse

    monkeypatch.chdir(tmp_path)
    rng, kind = np.random.default_rng(0), np.arange(CELLS) % 3
    genes = rng.gamma(2, 2, (3, 12))[kind]
    rna = scipy.sparse.csr_matrix(rng.poisson(genes).astype(np.float32))
    obs = pandas.DataFrame({"cell_type": pandas.Categorical.from_codes(kind, TYPES), "donor": kind.astype(str)},
                           index=[f"cell{i}" for i in range(CELLS)])  # fmt: skip
    var = pandas.DataFrame(index=[f"gene{g}" for g in range(12)])
    proteins = pandas.DataFrame(rng.poisson(5 + 5 * kind[:, None], (CELLS, 4)), index=obs.index, columns=list("abcd"))
    found = anndata.AnnData(rna, obs=obs, var=var, obsm={"protein": proteins, "X_pca": rng.normal(size=(CELLS, 2))})
    found.layers["log"] = np.log1p(rna.toarray())
    return found


def make(source, *options):
    done = CliRunner().invoke(app, ["make-dataset", "anndata", source, *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_counts_become_vectors_with_a_recipe(cells, tmp_path):
    cells.write_h5ad("cells.h5ad")
    said = make("cells.h5ad", "--label", "cell_type", "--recipe", "mine.yaml").stderr
    assert "--modality rna=X --modality protein=obsm/protein --label cell_type" in said
    store = Store(tmp_path / "data" / "cells")
    assert store.info.labels.names == TYPES
    keys = {split: store.keys(split).tolist() for split in ("train", "test")}
    assert sorted(keys["train"] + keys["test"]) == sorted(cells.obs_names)
    assert store.array("test", "rna")[0].tolist() == cells[keys["test"][0]].X.toarray()[0].tolist()
    assert store.info.modalities["protein"].features == tuple("abcd")
    assert store.info.modalities["rna"].features[3] == "gene3"
    counts = np.concatenate([store.array(split, "rna")[:] for split in ("train", "test")])
    assert sorted(map(tuple, counts)) == sorted(map(tuple, cells.X.toarray()))
    recipe = recipes.validate(yaml.safe_load((tmp_path / "mine.yaml").read_text()), "mine.yaml")
    assert {spec.likelihood for spec in recipe.modalities.values()} == {"negative_binomial"}
    check_store(store, recipe)


def test_what_are_no_counts_is_standardised(cells, tmp_path):
    cells.write_h5ad("cells.h5ad")
    make("cells.h5ad", "--modality", "rna=layers/log", "--modality", "pca=obsm/X_pca")
    train = Store(tmp_path / "data" / "cells").array("train", "rna")[:]
    np.testing.assert_allclose(train.std(0), 1, atol=1e-5)


def test_a_cell_may_lack_a_modality(cells, tmp_path):
    mudata = pytest.importorskip("mudata")
    proteins = anndata.AnnData(cells.obsm["protein"].to_numpy(np.float32), obs=cells.obs[[]])
    both = mudata.MuData({"rna": cells[:50].copy(), "prot": proteins[20:].copy()})
    both.obs["label"] = both.obs_names.str[-1].to_numpy()
    both.write_h5mu("cells.h5mu")
    assert "rna 83%, prot 67% are there; 30 of 60 are complete" in make("cells.h5mu").stderr
    store = Store(tmp_path / "data" / "cells")
    assert (store.info.version, len(store.info.labels.names)) == (2, 10)
    assert sum(len(store.array(split, "prot")) for split in ("train", "test")) == 40


@pytest.mark.parametrize(("options", "message"), [
    (["--modality", "rna=layers/none"], "has none"), (["--modality", "rna"], "write NAME=X"),
    (["--label", "tissue"], "has no column 'tissue'"), (["--split", "cell_type"], "'B' .* is no split"),
    (["--raw", "dna"], "no such vector"),
])  # fmt: skip
def test_wrong_options_say_what_there_is(cells, options, message):
    cells.write_h5ad("cells.h5ad")
    with pytest.raises((UsageProblem, DataProblem), match=message):
        make("cells.h5ad", *options)


def test_bad_files_are_one_line(cells, tmp_path, monkeypatch):
    (tmp_path / "cells.h5ad").write_bytes(b"no HDF5")
    with pytest.raises(DataProblem, match=r"cells.h5ad cannot be read by anndata"):
        make("cells.h5ad")
    cells.X[3, 2] = np.nan
    cells.write_h5ad("cells.h5ad")
    with pytest.raises(DataProblem, match="X: row 3, feature gene2 is not finite"):
        make("cells.h5ad")
    monkeypatch.setattr("mmvae_cli.datasets.own.from_anndata._MOST_FEATURES", 10)
    with pytest.raises(DataProblem, match="12 features are more than 10"):
        make("cells.h5ad")
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(UsageProblem, match="needs the package anndata") as problem:
        make("cells.h5ad")
    assert "pip install 'mmvae-cli[anndata]'" in problem.value.hint
    with pytest.raises(UsageProblem, match=r"an .h5ad or .h5mu file"):
        make("cells.csv")
