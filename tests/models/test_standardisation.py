"""A classifier of standardised embeddings, stored for raw ones: the same answers, whatever the fusion and the head."""

import pytest
import torch

from anymc3d.errors import UsageError
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.fusion import FUSIONS
from anymc3d.models.standardisation import Scale, has_standard_form, in_raw_units, in_standard_units

WIDTH = 16
COUNTS = {"axial": (3, 0, 2, 4), "sagittal": (1, 2, 4, 1)}
WITH_FORM = [name for name in FUSIONS if has_standard_form(name)]


class Backbone(torch.nn.Module):
    embed_dim = WIDTH


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def classifier_of(fusion, head, views=("axial", "sagittal")):
    """One whose every parameter is far from its usual start."""
    made = VolumeClassifier(Backbone(), views=views, num_logits=3, head=head, fusion=fusion, rank=None)
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws(number)))
    return made.eval()


def embeddings(views=("axial", "sagittal")):
    """As class tokens are: long and mostly common to all."""
    common = 5 * torch.randn(WIDTH, generator=draws(7))
    return {view: common + torch.randn(sum(COUNTS[view]), WIDTH, generator=draws(i)) for i, view in enumerate(views)}


def scale():
    return Scale(5 * torch.randn(WIDTH, generator=draws(7)), torch.rand(WIDTH, generator=draws(8)) + 0.2)


@pytest.mark.parametrize("head", ["linear", "ordinal"])
@pytest.mark.parametrize("views", [("axial", "sagittal"), ("sagittal",)])
@pytest.mark.parametrize("fusion", WITH_FORM)
def test_stored_for_raw_embeddings_it_answers_as_it_was_trained(fusion, head, views):
    trained, stored = classifier_of(fusion, head, views), classifier_of(fusion, head, views)
    trained.scale = scale()
    counts = {view: COUNTS[view] for view in views}
    with torch.inference_mode():
        expected = trained.fuse(embeddings(views), counts)
        stored.load_tensors(trained.plugin_tensors())
        found = stored.fuse(embeddings(views), counts)
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(found.view_weights, expected.view_weights, atol=2e-5, rtol=1e-4)
    assert {name: t.shape for name, t in trained.plugin_tensors().items()} == {
        name: t.shape for name, t in trained.tensors().items()
    }
    as_it_was = classifier_of(fusion, head, views).fuse(embeddings(views), counts).logits
    assert not torch.allclose(as_it_was, expected.logits), "without the scale it is another classifier"


@pytest.mark.parametrize("fusion", WITH_FORM)
def test_there_and_back_are_the_same_tensors(fusion):
    tensors = classifier_of(fusion, "ordinal").tensors()
    again = in_standard_units(in_raw_units(tensors, scale(), fusion), scale(), fusion)
    for name, tensor in tensors.items():
        torch.testing.assert_close(again[name], tensor.detach(), atol=1e-4, rtol=1e-4)


def test_what_is_added_to_its_own_layer_norm_has_no_such_form():
    """With the spread alone: a layer norm of a rescaled slice is another one, and so is what it is added to."""
    assert [name for name in FUSIONS if not has_standard_form(name)] == ["mst", "mst-positions"]
    with pytest.raises(UsageError, match="fusion: mst cannot be trained on standardised embeddings"):
        in_raw_units({}, scale(), "mst")
