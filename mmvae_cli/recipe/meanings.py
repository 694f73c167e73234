"""What every key of a recipe means: the one source of ``mmvae train --list`` and docs/recipes.md. No torch.

``modalities.*`` stands for every modality. A test holds these keys and those of the schema equal.
"""

MEANINGS: dict[str, str] = {
    "name": "What the experiment is called; its run folder begins with it.",
    "dataset.name": "A folder under the data directory, or a path.",
    "modalities.*.network": "How it is encoded and decoded; own.NAME is a function of your own file, that of --code.",
    "modalities.*.likelihood": "How likely its data are, given the decoder's output (equations 4.2).",
    "modalities.*.scale": "The scale of a laplace or normal likelihood: a constant (usually 0.75, of a vector 1), or "
    "learned: one number for the modality, trained with the decoder.",
    "modalities.*.shape": "Sides of one item: channels, height and width of an image, length of a text, features "
    "of a vector. Needed where the network leaves it open.",
    "modalities.*.width": "Makes a network smaller or larger where it can be; null: the paper's size, 512 for mlp, "
    "64 for text.",
    "modalities.*.depth": "Hidden layers of the network mlp, usually 2.",
    "modalities.*.dropout": "Dropout between the layers of the network mlp, usually 0.",
    "modalities.*.layer_norm": "Whether the network mlp normalises its layers, usually not.",
    "modalities.*.characters": "Characters of the alphabet that the network text is for, usually 71.",
    "modalities.*.private_weight": "Weight of its private latent's KL, s_m of Eq. (34), where it has one.",
    "model.method": "The row of the table of methods that settles what the recipe leaves open.",
    "model.latent_dim": "Dimensions of the shared latent z.",
    "model.private_dim": "Dimensions of each modality's private latent; 0: there are none (equations 3.4).",
    "model.subsets": "The subset family: which subsets of the modalities are components (equations 2.1).",
    "model.posterior": "Latent family of experts and priors: normal, or laplace, whose scales have a mean of 1 "
    "(equations 1.2).",
    "model.learn_prior": "Whether the scale of p(z) is learned, with a mean of 1 (equations 3.5).",
    "model.fusion": "How the experts of a subset become one distribution (equations 2.4).",
    "model.correlation": "The correlation of the experts' errors, with model.fusion: consensus.",
    "model.prior_expert": "Which products N(0, I) takes part in: none, that of all modalities (full), or all "
    "(equations 2.3).",
    "model.private": "The private latent of a modality outside the component: from its own posterior, or from an "
    "auxiliary prior with learned scales (equations 3.4).",
    "objective.beta": "Weight of all KL terms against the likelihoods.",
    "objective.beta_warmup": "Epochs over which beta rises from 0 to its value, step by step.",
    "objective.beta_content": "Weight of the shared latent's KL, times beta.",
    "objective.beta_private": "Weight of the private latents' KL, times beta, where there are any.",
    "objective.likelihood_weights": "by_size: largest modality / own size, the paper's rule; equal: 1; or a number for "
    "each modality (equations 4.3).",
    "objective.kl": "components: mean of the components' KLs, as released; mixture: a Monte Carlo estimate of the "
    "mixture's own, Eq. (6); total_correlation: KLs to the experts, too (equations 4.4).",
    "objective.prior": "The prior in the components' KLs: standard, N(0, I); dynamic, its geometric mean with "
    "them; mixture, a mixture of them; pairwise, each of them (equations 4.5).",
    "objective.prior_share": "The weight of N(0, I) in that prior; auto: 1/(S+1) in the dynamic one, else 0.",
    "objective.alpha": "The share of total correlation; auto: n/(n+1) for n experts (equations 4.4).",
    "objective.component_choice": "The component of a row. stratified: blocks, the last component has the rows left "
    "over, as released; balanced: blocks that differ by one row at most; random: drawn; all: every component, Eq. (5) "
    "(equations 3.2).",
    "objective.component_weights": "mean over the components, as in a mixture; sum: each is a bound of its own; "
    "learned, with their entropy rewarded.",
    "objective.entropy_weight": "The weight of the entropy of the learned weights.",
    "objective.decode": "A component decodes all modalities, or its members only.",
    "objective.estimator": "elbo: one sample; iwae, stl, dreg: bounds of K samples and estimators of their gradient "
    "(equations 4.8).",
    "objective.samples": "K, samples of each component.",
    "objective.bound": "Where the mean over the components stands: loose, outside the logarithm; tight, inside "
    "(equations 4.7).",
    "objective.random_subsets": "Extra subsets drawn for each step, each an ELBO of its members.",
    "objective.unimodal_weights": "Of mvae: likelihood weight in the components of one modality. one: 1, as released; "
    "same: as in the joint component.",
    "training.epochs": "How often every training item is seen.",
    "training.batch_size": "Items of one step, over all processes together.",
    "training.learning_rate": "Adam's; the rest are torch's defaults, as in the paper.",
    "training.schedule": "constant (the paper's); cosine: the learning rate falls to zero along half a cosine.",
    "training.seed": "The seed of initial weights, order of items, components and noise.",
    "training.precision": "The number format of the networks. tf32 and fp32 are the same on a CPU; bf16 is fast where "
    "the processor knows it. Fusion, KLs and densities are always fp32.",
    "training.compile": "auto: on a GPU the step is recorded once and replayed, and compiled where it pays; off: it "
    "is called as it is written.",
    "training.data_on": "Where the data lie: on the device or in host memory; auto: on the device where they fit.",
    "training.checkpoint_every": "Epochs from one checkpoint to the next.",
    "training.keep_checkpoints": "How many checkpoints stay.",
    "training.log_every": "Steps that a line of metrics.jsonl averages.",
    "training.missing.rate": "The probability with which each modality is taken from a training item, the same ones in "
    "every epoch. No item loses everything (equations 2.5).",
    "training.missing.keep": "Modalities that are never taken.",
    "training.missing.rows": "keep: items train with what is left of them; drop: those that lost something are left "
    "out; published: (1 - rate)^k N of N items, drawn by the seed and complete, where k modalities can be taken.",
    "training.missing.seed": "Seed for what is taken.",
    "evaluation.protocol": "default, or released: the behaviour of the authors' code (equations 6.4).",
    "evaluation.split": "What is measured. The paper's CelebA numbers are of the validation split.",
    "evaluation.latent_samples": "Labelled training items that the latent classifiers see: 500 in the paper; a "
    "number above those there are: all.",
    "evaluation.importance_samples": "Samples of a log-likelihood estimate.",
    "evaluation.items": "How many items are measured at most; null: all.",
    "evaluation.likelihood_items": "How many of them have their log-likelihood measured at most; null: all.",
    "evaluation.subsets_per_size": "How many subsets of each size are measured at most, drawn by the seed; null: all.",
    "evaluation.classifiers": "The coherence classifiers; released are the paper's; null: the protocol's.",
    "evaluation.classifier_width": "Size of the paper's attribute classifiers; null: its 128.",
    "evaluation.sampler": "What z is drawn from when nothing is given: prior, or gmm, a mixture of Gaussians fitted to "
    "encoded training items (equations 6.5).",
    "evaluation.gmm_components": "Components of that mixture. Choosing the number of classes uses a little knowledge "
    "of the labels.",
    "evaluation.joint_samples": "How many z are drawn so: for joint coherence and unconditional quality.",
    "evaluation.features": "In which features generated and real samples are compared: classifier, the coherence "
    "classifiers'; inception, FID's, from a file that you have (equations 6.6).",
    "evaluation.pairs": "What is compared: default, every modality from each other one and from all others; all, from "
    "every subset without it; mmvaeplus, mvtcae, multivae: as those papers do (equations 6.6).",
    "evaluation.seed": "Seed for everything that evaluation draws.",
}
