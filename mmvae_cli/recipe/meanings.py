"""What every key of a recipe means: the one source of ``mmvae train --list`` and docs/recipes.md. No torch.

``modalities.*`` stands for every modality. A test holds these keys and those of the schema equal.
"""

MEANINGS: dict[str, str] = {
    "name": "Name of the experiment; the run folder begins with it.",
    "dataset.name": "A folder under the data directory, or a path.",
    "modalities.*.network": "Encoder and decoder. own.NAME is a function in your own file, given with --code.",
    "modalities.*.likelihood": "Distribution of the data, given the decoder's output (equations 4.2).",
    "modalities.*.scale": "Scale of a laplace or normal likelihood: a constant (usually 0.75, for a vector 1), or "
    "learned: one number for the modality, trained with the decoder.",
    "modalities.*.shape": "Shape of one item: channels, height and width of an image, length of a text, number of "
    "features of a vector. Needed if the network fits several shapes.",
    "modalities.*.width": "Makes a network smaller or larger. null: the paper's size; 512 for mlp, 64 for text.",
    "modalities.*.depth": "Number of hidden layers of the network mlp, usually 2.",
    "modalities.*.dropout": "Dropout between the layers of the network mlp, usually 0.",
    "modalities.*.layer_norm": "Whether the network mlp has layer norms, usually not.",
    "modalities.*.characters": "Size of the alphabet for the network text, usually 71.",
    "modalities.*.private_weight": "Weight of the KL of its private latent, s_m in Eq. (34).",
    "model.method": "The method: a preset of the keys that the recipe leaves open.",
    "model.latent_dim": "Dimensions of the shared latent z.",
    "model.private_dim": "Dimensions of each modality's private latent; 0: none (equations 3.4).",
    "model.subsets": "The subset family: the subsets of modalities that are components of the mixture (equations 2.1).",
    "model.posterior": "Distribution of experts and priors: normal, or laplace with scales of mean 1 (equations 1.2).",
    "model.learn_prior": "Whether the scale of p(z) is learned, with mean 1 (equations 3.5).",
    "model.fusion": "How the experts of a subset become one distribution (equations 2.4).",
    "model.correlation": "Correlation of the experts' errors, for model.fusion: consensus.",
    "model.prior_expert": "Which products have N(0, I) as one more factor: none, that of all modalities (full), or all "
    "(equations 2.3).",
    "model.private": "Where a modality outside the component has its private latent from in training: posterior: its "
    "own posterior; auxiliary: an auxiliary prior with learned scales (equations 3.4).",
    "objective.beta": "Weight of all KL terms against the likelihoods.",
    "objective.beta_warmup": "Epochs in which beta rises linearly from 0 to its value.",
    "objective.beta_content": "Weight of the shared latent's KL; it is multiplied with beta.",
    "objective.beta_private": "Weight of the private latents' KLs; it is multiplied with beta.",
    "objective.likelihood_weights": "by_size: size of the largest modality / own size, the paper's rule; equal: 1; or "
    "a number for each modality (equations 4.3).",
    "objective.kl": "The regulariser. components: KLs of the components, as released; mixture: a Monte Carlo estimate "
    "of the mixture's KL, Eq. (6); total_correlation: also KLs to the experts (equations 4.4).",
    "objective.prior": "The prior in the components' KLs. standard: N(0, I); dynamic: geometric mean of N(0, I) and "
    "the components; mixture: mixture of the components; pairwise: each component in turn (equations 4.5).",
    "objective.prior_share": "Weight of N(0, I) in that prior. auto: 1/(S+1) for dynamic, with S components, else 0.",
    "objective.alpha": "Share of the total correlation. auto: n/(n+1) for n experts (equations 4.4).",
    "objective.component_choice": "Which component an item is decoded from. stratified: equal blocks of the batch, the "
    "last component also gets the items left over, as released; balanced: blocks that differ by one item at most; "
    "random: drawn for each item; all: every component, Eq. (5) (equations 3.2).",
    "objective.component_weights": "mean: of the components, as in a mixture; sum: each component is a bound of its "
    "own; learned: a weighted mean, with the entropy of the weights rewarded (equations 4.1).",
    "objective.entropy_weight": "Weight of the entropy of learned component weights.",
    "objective.decode": "Whether a component decodes all modalities, or its members only.",
    "objective.estimator": "elbo: one sample; iwae, stl, dreg: a bound of K samples, by its estimator of the gradient "
    "(equations 4.8).",
    "objective.samples": "K, the number of samples per component, for iwae, stl and dreg.",
    "objective.bound": "Where the mean over the components is taken: loose: outside the logarithm; tight: inside "
    "(equations 4.7).",
    "objective.random_subsets": "Number of extra subsets drawn for each step, each with an ELBO of its members "
    "(equations 4.1).",
    "objective.unimodal_weights": "mvae only: likelihood weights in the components of one modality. one: 1, as "
    "released; same: as in the joint component.",
    "training.epochs": "Passes over the training items, in a new order each. The items left over from whole batches "
    "are not trained on in that pass.",
    "training.batch_size": "Items per step, over all processes together.",
    "training.learning_rate": "Learning rate of Adam. Its other settings are torch's defaults, as in the paper.",
    "training.schedule": "constant, as in the paper; cosine: the learning rate falls to 0 along half a cosine.",
    "training.seed": "Seed of initial weights, order of items, components and noise.",
    "training.precision": "Number format of the networks. On a CPU tf32 and fp32 are the same, and bf16 is fast only "
    "if the processor supports it. Fusion, KLs and densities are always fp32.",
    "training.compile": "auto: on a GPU a step is recorded once and replayed, and compiled if that pays; off: neither.",
    "training.data_on": "Where the data are kept: device, host memory, or auto: on the device if they fit.",
    "training.checkpoint_every": "Epochs between two checkpoints.",
    "training.keep_checkpoints": "Number of checkpoints that are kept.",
    "training.log_every": "Number of steps that one line of metrics.jsonl averages, counted anew in each epoch. Less "
    "than half as many steps at the end of an epoch join the line before.",
    "training.missing.rate": "Probability with which a training item loses a modality; it loses the same ones in every "
    "epoch, and never all (equations 2.5).",
    "training.missing.keep": "Modalities that no item loses.",
    "training.missing.rows": "keep: items train with what is left of them; drop: items that lost something are left "
    "out; published: (1 - rate)^k N of the N items, complete and drawn by the seed, where k modalities can be lost.",
    "training.missing.seed": "Seed of what is lost.",
    "evaluation.protocol": "default, or released: as the authors' code measures (equations 6.4).",
    "evaluation.split": "The split that is measured. The paper's CelebA numbers are of the validation split.",
    "evaluation.latent_samples": "Training items that the latent classifiers learn from: 500 in the paper; a number "
    "above those there are: all.",
    "evaluation.importance_samples": "Samples of a log-likelihood estimate.",
    "evaluation.items": "Items that are measured at most; null: all.",
    "evaluation.likelihood_items": "Items of which the log-likelihood is measured at most; null: all.",
    "evaluation.subsets_per_size": "Subsets of each size that are measured at most, drawn by the seed; null: all.",
    "evaluation.classifiers": "The coherence classifiers: default; released: the paper's; null: those of the protocol.",
    "evaluation.classifier_width": "Width of the paper's attribute classifiers; null: the paper's 128.",
    "evaluation.sampler": "What z is drawn from when no modality is given: prior, or gmm, a mixture of Gaussians "
    "fitted to encoded training items (equations 6.5).",
    "evaluation.gmm_components": "Components of that mixture. Taking the number of classes uses a little knowledge of "
    "the labels.",
    "evaluation.joint_samples": "Number of such z, for joint coherence and unconditional quality.",
    "evaluation.features": "Features in which generated and real samples are compared. classifier: those of the "
    "coherence classifiers; inception: those of FID, from a file of yours (equations 6.6).",
    "evaluation.pairs": "What is compared. default: each modality given each other one and given all others; all: "
    "given every subset without it; mmvaeplus, mvtcae, multivae: as in those papers (equations 6.6).",
    "evaluation.seed": "Seed of everything that evaluation draws.",
}
