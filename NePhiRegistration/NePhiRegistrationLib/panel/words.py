"""What the panel shows from files of data, marked for translation (Testing/generated_files.py)."""

from __future__ import annotations

from slicer.i18n import tr as _


def option_help() -> dict[str, str]:
    """Option -> what it does."""
    return {
        "affine": _("linear alignment before the deformable registration"),
        "weights":
        _("trained weights that predict an initial deformation: 'auto' for shipped weights that suit the "
          "images, the name of shipped weights, a file, or 'none'"),
        "refinement": _("iterations that refine the codes and networks of the prediction before the levels start"),
        "search":
        _("'auto' starts from displacements found by comparing cells with those around them, in the place "
          "of the coarsest levels; 'never' starts from the linear alignment"),
        "after_prediction":
        _("fraction of each level's iterations to run after a prediction, one value per level, the last for"
          " the finest; the first also applies to all coarser levels"),
        "similarity":
        _("image similarity measure; 'auto' is lncc for images of one contrast and shapes for others; "
          "'shapes' is mind with what it needs: no global_ncc, a smoothness of 10 and a latent_ratio of 6 "
          "or more, and in 2D a smoothness of 100 and other levels; choose mind to set them yourself"),
        "global_ncc": _("weight of the global normalised cross-correlation, added to the similarity"),
        "resolution": _("samples along each side of a cube with the volume of the mask, per level"),
        "iterations": _("maximum iterations per level, or one number for all levels; 0 skips a level"),
        "patch": _("samples along each side of a patch"),
        "points": _("maximum sample points per iteration; surplus patches are dropped at random"),
        "node_cells": _("number of intervals between network evaluations along each side of a patch"),
        "margin": _("distance beyond the masks within which images are compared, in samples of the finest level"),
        "flat_variance": _("intensity variance below which a patch counts as flat, for intensities scaled to [0, 1]"),
        "frequencies": _("number of Fourier features of the coordinates"),
        "frequency_scale": _("standard deviation of the Fourier frequencies, in periods per half side of the image"),
        "hidden": _("width of the hidden layers of the networks"),
        "omega": _("frequency factor of the sinusoidal layers"),
        "channels": _("channels of the local latent code"),
        "shared_channels": _("channels of the global latent code"),
        "code_scale": _("standard deviation of the initial latent codes"),
        "readout": _("initial scale of the displacement's linear dependence on the latent code"),
        "latent_ratio": _("spacing of the latent grid, in sample spacings"),
        "learning_rate": _("learning rate of the network weights"),
        "code_learning_rate": _("learning rate of the latent codes"),
        "regularity": _("weight of the gradient inverse-consistency penalty"),
        "round_trip": _("weight of the squared inverse-consistency error, in samples of the finest level"),
        "smoothness": _("weight of the squared displacement gradient"),
        "fold_margin": _("Jacobian determinant below which the fold penalty sets in"),
        "fold_weight": _("weight of the fold penalty"),
        "prior": _("weight of the norm of the latent codes"),
        "landmark_pull":
        _("weight of the squared landmark distance, in samples of the finest level, if landmarks guide the "
          "registration"),
        "convergence": _("relative decrease of the loss below which a level ends early; 0 disables this"),
        "step_back":
        _("'auto' leaves out a deformation that does not make the images agree better at distinctive "
          "points, and the linear alignment where that does not either; 'never' keeps both"),
        "tolerance":
        _("error of exported transforms that 999 of 1000 points keep, in voxels; their nodes are as far "
          "apart as it allows"),
        "device": _("device to compute on"),
        "seed": _("seed of all random numbers"),
    }


def preset_descriptions() -> dict[str, str]:
    """Preset -> what it is for."""
    return {
        "brain-mri": _("Brain MRI of one contrast, within or between people; skull-stripped or with brain masks."),
        "generic": _("Any pair of images, of any organ; different contrasts are recognised."),
        "lung-ct": _("Chest CT of one person at two breathing states; works best with lung masks."),
        "multimodal": _("Images of different contrasts: T1 and T2, CT and MR, MR and ultrasound, stains of histology."),
    }
