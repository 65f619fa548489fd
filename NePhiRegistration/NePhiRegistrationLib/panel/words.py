"""What the panel shows from files of data, marked for translation (Testing/generated_files.py)."""

from __future__ import annotations

from slicer.i18n import tr as _


def option_help() -> dict[str, str]:
    """Option -> what it does."""
    return {
        "affine": _("linear pre-alignment"),
        "weights":
        _("trained weights that predict the deformation after it: 'auto' for those shipped for such images,"
          " their name, a file, or 'none'"),
        "refinement": _("iterations that go on from the prediction itself, its codes and fields, before the levels"),
        "after_prediction":
        _("share of a level's iterations that is done after a prediction, per level, counted from the "
          "finest; the first counts for all that are coarser"),
        "similarity": _("how images are compared"),
        "global_ncc": _("weight of the normalised cross-correlation of all points, added to the similarity"),
        "resolution": _("samples along the side of a cube with the mask's volume, per level"),
        "iterations": _("most iterations per level, or one number for all; 0 skips a level"),
        "patch": _("samples along the side of a patch"),
        "points": _("most sample points in an iteration; patches are left out at random to keep to it"),
        "node_cells": _("intervals between field evaluations along a patch's side"),
        "mask_margin": _("how far beyond the masks images are compared, mm"),
        "flat_variance": _("local contrast (variance of intensities in [0, 1]) below which a patch counts as flat"),
        "frequencies": _("Fourier features of a point"),
        "frequency_scale": _("their standard deviation, periods per half side of the image"),
        "hidden": _("width of the fields' layers"),
        "omega": _("frequency factor of the sinusoidal layers"),
        "channels": _("channels of the local latent code"),
        "shared_channels": _("length of the global latent code"),
        "code_scale": _("standard deviation of the initial codes"),
        "readout": _("initial scale of the displacement's linear term in the code"),
        "latent_ratio": _("latent grid spacing in sample spacings"),
        "learning_rate": _("of the fields' weights"),
        "code_learning_rate": _("of the latent codes"),
        "regularity": _("weight of the gradient inverse consistency"),
        "regularity_points": _("points of the regularity terms in an iteration"),
        "inverse_consistency": _("weight of the squared inverse-consistency error in mm^2"),
        "smoothness": _("weight of the squared displacement gradient"),
        "fold_margin": _("Jacobian determinants below this are pushed up"),
        "fold_weight": _("weight of that push"),
        "prior": _("weight of the codes' norms"),
        "landmark_weight": _("weight of the squared landmark distance in cm^2, when pairs are given"),
        "convergence": _("a level ends early when its loss falls by less than this share; 0 never"),
        "device": _("where to compute"),
        "seed": _("of every random draw"),
    }


def preset_descriptions() -> dict[str, str]:
    """Preset -> what it is for."""
    return {
        "brain-mri": _("Brain MR of one contrast, of one or two people; skull-stripped or with masks."),
        "generic": _("Images of one contrast, any organ."),
        "lung-ct": _("Chest CT of one person at two breathing states; give lung masks."),
    }
