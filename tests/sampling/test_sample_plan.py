"""Which figures are made of what is asked for."""

import pytest

from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.sampling.figures import FIGURE_KINDS, FigureRequest, attributes_in, choose_figures
from mmvae_cli.store.attribute_text import ATTRIBUTES

VIEWS = {f"m{v}": "image" for v in range(5)}
TRIPLE = {"mnist": "image", "svhn": "image", "text": "text"}
PAIR = {"image": "image", "text": "text"}


def names(asked: FigureRequest, kinds: dict[str, str], private_dim: int = 0) -> list[str]:
    return [figure.name for figure in choose_figures(asked, kinds, private_dim)]


def test_five_views_get_the_papers_figures():
    assert names(FigureRequest(), VIEWS) == ["reconstruction", "prior", "m0_given_m1", "m0_given_m1+m2+m3+m4", "latent"]


def test_prior_draws_one_picture_of_all_and_one_of_each():
    (figure,) = choose_figures(FigureRequest(kind="prior"), TRIPLE, 0)
    assert figure.pictures == ("prior", "random_mnist", "random_svhn", "random_text")


def test_three_modalities_get_every_conditional_grid():
    found = names(FigureRequest(kind="conditional"), TRIPLE)
    assert len(found) == len(set(found)) == 9
    assert {"text_given_mnist", "mnist_given_text", "svhn_given_mnist+text"} <= set(found)


def test_private_latents_add_the_swap_grids():
    assert names(FigureRequest(), PAIR, 3)[-3:-1] == ["swap_image", "swap_text"]
    assert not any(name.startswith("swap") for name in names(FigureRequest(), PAIR, 0))


def test_one_modality_has_no_conditional_grid_unless_asked_for():
    assert names(FigureRequest(), {"m0": "image"}) == ["reconstruction", "prior", "latent"]
    assert names(FigureRequest(given="m0"), {"m0": "image"}) == ["m0_given_m0"]
    assert names(FigureRequest(target="m0"), {"m0": "image"}) == ["m0_given_m0"]


@pytest.mark.parametrize("given", ["m3,m0", "m0+m3", " m0 , m3 ,m0", "m0,m3,"])
def test_a_source_set_is_read_in_the_order_of_the_modalities(given):
    figures = choose_figures(FigureRequest(given=given), VIEWS, 0)
    assert [figure.name for figure in figures] == ["m1_given_m0+m3", "m2_given_m0+m3", "m4_given_m0+m3"]
    assert all(figure.given == ("m0", "m3") for figure in figures)


def test_a_target_alone_is_generated_from_all_the_others():
    assert names(FigureRequest(target="m1,m4"), VIEWS) == ["m1_given_m0+m2+m3+m4", "m4_given_m0+m1+m2+m3"]


def test_all_given_generates_all():
    assert names(FigureRequest(given="image,text"), PAIR) == ["image_given_image+text", "text_given_image+text"]


def test_content_of_a_swap_may_come_from_elsewhere():
    assert names(FigureRequest(kind="swap", given="text", target="image"), PAIR, 2) == ["swap_image_given_text"]
    assert names(FigureRequest(kind="swap", given="text", target="text"), PAIR, 2) == ["swap_text"]


def test_an_unknown_modality_is_refused_with_the_names_and_the_nearest():
    with pytest.raises(UsageProblem, match="--given: no modality 'mnits'") as caught:
        choose_figures(FigureRequest(given="text,mnits"), TRIPLE, 0)
    assert caught.value.hint == "did you mean mnist? it has mnist, svhn, text"
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageProblem, match="--target: no modality 'm7'"):
        choose_figures(FigureRequest(target="m7"), VIEWS, 0)
    with pytest.raises(UsageProblem, match="names no modality"):
        choose_figures(FigureRequest(given=" , "), VIEWS, 0)


@pytest.mark.parametrize(
    ("asked", "kinds", "private_dim", "message"),
    [
        (FigureRequest(kind="prior", given="m0"), VIEWS, 0, "--given has no effect with --kind prior"),
        (FigureRequest(kind="reconstruction", target="m0"), VIEWS, 0, "--target has no effect"),
        (FigureRequest(kind="latent", given="m0"), VIEWS, 0, "--given has no effect with --kind latent"),
        (FigureRequest(kind="prior", texts=("smiling",)), PAIR, 0, "--text has no effect"),
        (FigureRequest(kind="swap", texts=("smiling",)), PAIR, 2, "--text has no effect"),
        (FigureRequest(kind="swap"), PAIR, 0, "no private latents"),
        (FigureRequest(texts=("smiling",)), VIEWS, 0, "no text modality"),
        (FigureRequest(texts=("smiling",), given="image"), PAIR, 0, "--text is what is given"),
        (FigureRequest(texts=(" , ",)), PAIR, 0, "names no attribute"),
        (FigureRequest(texts=("a",)), {"note": "text", "title": "text"}, 0, r"several texts \(note, title\)"),
        (FigureRequest(texts=("a",), given="note,title"), {"note": "text", "title": "text"}, 0, "what is given"),
    ],
)
def test_options_that_contradict_each_other_are_refused(asked, kinds, private_dim, message):
    with pytest.raises(UsageProblem, match=message) as caught:
        choose_figures(asked, kinds, private_dim)
    assert caught.value.hint


def test_typed_attributes_are_found_whatever_their_case_and_underscores():
    found = attributes_in("smiling,  Blond_Hair,EYEGLASSES , 5 o clock shadow")
    assert [ATTRIBUTES[a] for a in found] == ["5_o_Clock_Shadow", "Blond_Hair", "Eyeglasses", "Smiling"]


def test_an_unknown_attribute_is_refused_with_the_nearest():
    with pytest.raises(UsageProblem, match="no attribute 'eye glasses'") as caught:
        attributes_in("smiling, eye glasses")
    assert caught.value.hint.startswith("did you mean 'eyeglasses'? the attributes are: 5 o clock shadow,")


def test_typed_text_of_own_data_is_taken_as_it_is_and_of_several_texts_the_given_one():
    asked = FigureRequest(texts=("A red square!", "\u00e4"), given="title", target="photo")
    (figure,) = choose_figures(asked, {"photo": "image", "note": "text", "title": "text"}, 0, ("a", "b"))
    assert figure.texts == asked.texts
    assert (figure.name, figure.given) == ("photo_given_title_A_red_square_and_typed", ("title",))
    with pytest.raises(UsageProblem, match="--text is empty"):
        choose_figures(FigureRequest(texts=(" ",)), PAIR, 0, ())


def test_typed_text_names_its_file():
    (figure,) = choose_figures(FigureRequest(texts=("Smiling, blond hair", "male")), PAIR, 0)
    assert figure.name == "image_given_text_blond_hair_smiling_and_male"
    assert (figure.kind, figure.given, figure.target, len(figure.texts)) == ("conditional", ("text",), ("image",), 2)


def test_file_names_stay_short_and_apart():
    kinds = {f"a_rather_long_name_{number}": "image" for number in range(20)}
    first, second, *_ = kinds
    found = names(FigureRequest(target=f"{first},{second}"), kinds)
    found += names(FigureRequest(target=first, given=",".join(list(kinds)[2:])), kinds)
    assert max(map(len, found)) < 120
    assert len(set(found)) == 3


def test_every_kind_has_a_plan():
    for kind in FIGURE_KINDS:
        assert all(figure.kind == kind for figure in choose_figures(FigureRequest(kind=kind), PAIR, 2))
