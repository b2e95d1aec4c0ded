"""Image-text models and attention backends: which there are, where their weights are, and how they are run.

base.py                 the protocols of models, of attention backends and of what they are given; device and dtype
registry.py             known models and their licenses, what of them is on this machine, loading by name
info.py                 what a model is, from its configuration alone
deferred.py             the models of a run, known by digest before they are loaded

open_clip.py            open_clip's models behind the protocol
open_clip_sources.py    from a name to architecture, preprocessing, weights and tokenizer
open_clip_configs.py    what must hold in the configuration of a stranger's folder
open_clip_networks.py   from architecture and weights file to the network
transformers_sources.py    the files of a CLIP or SigLIP model as transformers writes it
transformers_configs.py    its architecture and its preprocessing
transformers_networks.py   the same as an open_clip network
transformers_tokenizer.py  its tokenizer
tokenizer_files.py      whether a stranger's tokenizer is safe to run
embedded.py             the model that comes as Python packages
embedded_networks.py    its two networks
embedded_files.py       its files, and what its classes mean

attention.py            attention backends by name: DINO, the model's own, uniform
vit.py                  vision transformers for DINO's attention
cls_attention.py        attention of the CLS token, and a block finished for that token alone
last_block.py           image encoders split in front of their last block; feature windows

runtime.py              what runs the blocks of an image encoder on a CPU: the choice, its check and its memory
runtime_names.py        the names of runtimes, and what of a machine their choice depends on
block_stack.py          plain transformer blocks in oneDNN and OpenVINO

weights.py              weights files: finding them, what kind they are, pickles that hold more than tensors
checkpoint.py           reading them safely, names of tensors, fitting them to a model
store.py                the local store of weights, with a record of every file; short names
download.py             pulling from the hub, and verifying
transfer.py             moving weights between machines
"""
