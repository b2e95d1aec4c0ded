"""The published data sets: splits, sizes, layouts. To add one, add its declaration.

Sources of the sizes: for ``coop-*`` table 6 of "Learning to Prompt for Vision-Language Models" (Zhou et al., 2022), for
all other splits the papers and README files of the data sets. The first split of each is the one that papers on
zero-shot classification report.
"""

from __future__ import annotations

from abs_classify.datasets.benchmarks.base import Archive, Benchmark, BenchmarkSplit
from abs_classify.datasets.benchmarks.binary_layouts import (
    CarsMat,
    CifarBinary,
    FlowersMat,
    ImagenetDevkit,
    ImagenetSuffixed,
)
from abs_classify.datasets.benchmarks.layouts import (
    ClassFolders,
    CoopSplit,
    CubTables,
    EntryLabel,
    ListFile,
    aircraft_line,
    by_breed,
    by_folder,
    by_label,
    by_letter,
    by_number,
    dtd_line,
    food101_line,
    imagenet_caffe_line,
    imagenet_kaggle_line,
    pets_line,
    places365_line,
    sun397_line,
    ucf101_line,
    under_letters,
)

__all__ = ["BENCHMARKS"]

_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
# the official host is gone; torchvision's documentation points to copies there
_CARS = "one of the copies that https://github.com/pytorch/vision/issues/7545 lists (the official host is gone)"
_COOP = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


def _coop(
    file: str,
    images: tuple[str, ...],
    sizes: tuple[int, int, int],
    label: EntryLabel = by_folder,
    without: tuple[str, ...] = (),
) -> tuple[BenchmarkSplit, ...]:
    """The splits of a split file of the CoOp suite.

    Args:
        file: the split file.
        images: folders that may be the one its paths start from.
        sizes: of test, val and train.
        label: from an entry to the class id.
        without: ids of classes that it leaves out.
    """
    return tuple(
        BenchmarkSplit(f"coop-{part}", size, tuple(CoopSplit(file, part, folder, label) for folder in images), without)
        for part, size in zip(("test", "val", "train"), sizes, strict=True)
    )


def _variant(name: str, folders: tuple[str, ...], other: tuple[str, ...]) -> BenchmarkSplit:
    """A variant of ImageNet-V2, in one of the folders or in the root unless its name has a word of ``other``."""
    readers = tuple(ClassFolders(folder, by_number, other=other) for folder in (*folders, "."))
    return BenchmarkSplit(name, 10_000, readers)


_IMAGENET = (
    Benchmark(
        "imagenet",
        "ImageNet (ILSVRC 2012), validation: 50,000 images, 1,000 classes",
        "imagenet",
        (
            BenchmarkSplit(
                "val",
                50_000,
                (
                    ClassFolders("val"),
                    ClassFolders("images/val"),
                    ClassFolders("ILSVRC/Data/CLS-LOC/val"),
                    ClassFolders("val", by_number, numbered=True),
                    ImagenetSuffixed("val"),
                    ListFile("LOC_val_solution.csv", "ILSVRC/Data/CLS-LOC/val", imagenet_kaggle_line, header=1),
                    ImagenetDevkit("val"),
                    ImagenetDevkit("."),
                    ImagenetDevkit("images/val"),
                    ListFile("val.txt", "ILSVRC2012/val", imagenet_caffe_line),
                    ImagenetSuffixed("."),
                    ClassFolders(".", by_number, numbered=True),
                    ClassFolders("."),
                ),
            ),
        ),
        (
            Archive(
                "ILSVRC2012_devkit_t12.tar.gz",
                ("ILSVRC2012_devkit_t12",),
                ".",
                "https://image-net.org/download-images",
            ),
            Archive("ILSVRC2012_img_val.tar", (), "val", "https://image-net.org/download-images"),
        ),
        aliases=(
            "ilsvrc2012",
            "imagenet1k",
            "imagenet-1k",
            "imagenet2012",
        ),
    ),
    Benchmark(
        "imagenet-v2",
        "ImageNet-V2: 10,000 new test images of the 1,000 classes, in three variants",
        "imagenet",
        (
            _variant(
                "matched-frequency",
                ("imagenetv2-matched-frequency-format-val", "imagenet-matched-frequency-format-val"),
                ("threshold", "top-images"),
            ),
            _variant(
                "threshold-0.7",
                ("imagenetv2-threshold0.7-format-val", "imagenet-threshold-0.7-format-val"),
                ("matched-frequency", "top-images"),
            ),
            _variant(
                "top-images",
                ("imagenetv2-top-images-format-val", "imagenet-top-images-format-val"),
                ("matched-frequency", "threshold"),
            ),
        ),
        tuple(
            Archive(
                f"imagenetv2-{kind}.tar.gz", (f"imagenetv2-{kind}",), ".", "https://github.com/modestyachts/ImageNetV2"
            )
            for kind in ("matched-frequency", "threshold0.7", "top-images")
        ),
        aliases=("imagenetv2",),
    ),
    Benchmark(
        "imagenet-r",
        "ImageNet-R: 30,000 renditions (art, toys, ...) of 200 classes of ImageNet",
        "imagenet-r",
        (BenchmarkSplit("test", 30_000, (ClassFolders("imagenet-r"), ClassFolders("."))),),
        (Archive("imagenet-r.tar", (), ".", "https://github.com/hendrycks/imagenet-r"),),
        superset="imagenet",
        aliases=("imagenet-rendition",),
    ),
    Benchmark(
        "imagenet-a",
        "ImageNet-A: 7,500 photos that fool classifiers, of 200 classes of ImageNet",
        "imagenet-a",
        (BenchmarkSplit("test", 7_500, (ClassFolders("imagenet-a"), ClassFolders("."))),),
        (Archive("imagenet-a.tar", (), ".", "https://github.com/hendrycks/natural-adv-examples"),),
        superset="imagenet",
        aliases=(
            "imagenet-adversarial",
            "natural-adv-examples",
        ),
    ),
    Benchmark(
        "imagenet-sketch",
        "ImageNet-Sketch: 50,889 drawings of the 1,000 classes (not ImageNet-S, a segmentation set)",
        "imagenet",
        (BenchmarkSplit("test", 50_889, (ClassFolders("sketch"), ClassFolders("images"), ClassFolders("."))),),
        (Archive("ImageNet-Sketch.zip", (), ".", "https://github.com/HaohanWang/ImageNet-Sketch"),),
    ),
)

_FINE = (
    Benchmark(
        "cub",
        "CUB-200-2011: 5,794 test photos of 200 kinds of birds",
        "cub-200-2011",
        (
            BenchmarkSplit("test", 5_794, (CubTables(training=False),)),
            BenchmarkSplit("train", 5_994, (CubTables(training=True),)),
            BenchmarkSplit("all", 11_788, (CubTables(training=None),)),
        ),
        (Archive("CUB_200_2011.tgz", (), "..", "https://data.caltech.edu/records/65de6-vp158", "CUB_200_2011"),),
        aliases=(
            "cub-200-2011",
            "cub200",
            "cub-200",
            "caltech-ucsd-birds",
        ),
    ),
    Benchmark(
        "pets",
        "Oxford-IIIT Pet: 3,669 test photos of 37 breeds",
        "pets",
        (
            BenchmarkSplit("test", 3_669, (ListFile("annotations/test.txt", "images", pets_line, comment="#"),)),
            BenchmarkSplit(
                "trainval", 3_680, (ListFile("annotations/trainval.txt", "images", pets_line, comment="#"),)
            ),
            *_coop("split_zhou_OxfordPets.json", ("images",), (3_669, 736, 2_944), by_breed),
        ),
        (
            Archive("annotations.tar.gz", ("annotations",), ".", f"{_VGG}/pets/"),
            Archive("images.tar.gz", ("images",), ".", f"{_VGG}/pets/"),
        ),
        aliases=(
            "oxford-pets",
            "oxford-iiit-pet",
            "oxford-iiit-pets",
            "oxfordpets",
        ),
    ),
    Benchmark(
        "flowers102",
        "Oxford 102 Flowers: 6,149 test photos",
        "flowers102",
        (
            BenchmarkSplit("test", 6_149, (FlowersMat("tstid"),)),
            BenchmarkSplit("train", 1_020, (FlowersMat("trnid"),)),
            BenchmarkSplit("val", 1_020, (FlowersMat("valid"),)),
            *_coop("split_zhou_OxfordFlowers.json", ("jpg",), (2_463, 1_633, 4_093), by_label),
        ),
        (Archive("102flowers.tgz", ("jpg",), ".", f"{_VGG}/flowers/102/"),),
        aliases=(
            "oxford-flowers",
            "oxford-flowers-102",
            "flowers",
            "flower102",
            "vgg-flowers",
            "102flowers",
        ),
    ),
    Benchmark(
        "stanford-cars",
        "Stanford Cars: 8,041 test photos of 196 models",
        "stanford-cars",
        (
            BenchmarkSplit(
                "test",
                8_041,
                (
                    CarsMat("cars_test_annos_withlabels.mat", "cars_test"),
                    CarsMat("devkit/cars_test_annos_withlabels.mat", "cars_test"),
                    ClassFolders("test"),
                ),
            ),
            BenchmarkSplit(
                "train", 8_144, (CarsMat("devkit/cars_train_annos.mat", "cars_train"), ClassFolders("train"))
            ),
            *_coop("split_zhou_StanfordCars.json", (".",), (8_041, 1_635, 6_509), by_label),
        ),
        (
            Archive("cars_test.tgz", ("cars_test",), ".", _CARS),
            Archive("cars_train.tgz", ("cars_train",), ".", _CARS),
            Archive("car_devkit.tgz", ("devkit",), ".", _CARS),
        ),
        aliases=(
            "cars",
            "stanfordcars",
            "cars196",
        ),
    ),
    Benchmark(
        "fgvc-aircraft",
        "FGVC-Aircraft: 3,333 test photos of 100 variants",
        "fgvc-aircraft",
        tuple(
            BenchmarkSplit(
                part,
                size,
                tuple(
                    ListFile(f"{base}images_variant_{part}.txt", f"{base}images", aircraft_line)
                    for base in ("data/", "")
                ),
            )
            for part, size in (("test", 3_333), ("val", 3_333), ("train", 3_334), ("trainval", 6_667))
        ),
        (Archive("fgvc-aircraft-2013b.tar.gz", (), "..", f"{_VGG}/fgvc-aircraft/", "fgvc-aircraft-2013b"),),
        aliases=(
            "aircraft",
            "fgvc",
            "fgvc-aircraft-2013b",
        ),
    ),
    Benchmark(
        "food101",
        "Food-101: 25,250 test photos",
        "food101",
        (
            BenchmarkSplit("test", 25_250, (ListFile("meta/test.txt", "images", food101_line),)),
            BenchmarkSplit("train", 75_750, (ListFile("meta/train.txt", "images", food101_line),)),
            *_coop("split_zhou_Food101.json", ("images",), (30_300, 20_200, 50_500)),
        ),
        (
            Archive(
                "food-101.tar.gz", (), "..", "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/", "food-101"
            ),
        ),
        aliases=(
            "food-101",
            "food",
        ),
    ),
)

_SCENES = (
    Benchmark(
        "dtd",
        "Describable Textures, test of partition 1: 1,880 images, 47 classes (test2 to test10: the others)",
        "dtd",
        (
            *(
                BenchmarkSplit(
                    f"{part}{partition}", 1_880, (ListFile(f"labels/{part}{partition}.txt", "images", dtd_line),)
                )
                for partition in range(1, 11)
                for part in ("test", "val", "train")
            ),
            *_coop("split_zhou_DescribableTextures.json", ("images",), (1_692, 1_128, 2_820)),
        ),
        (Archive("dtd-r1.0.1.tar.gz", (), "..", f"{_VGG}/dtd/", "dtd"),),
        aliases=(
            "describable-textures",
            "describable-textures-dataset",
        ),
    ),
    Benchmark(
        "places365",
        "Places365, validation: 36,500 images",
        "places365",
        (
            BenchmarkSplit(
                "val",
                36_500,
                (
                    ListFile("places365_val.txt", "val_large", places365_line),
                    ListFile("places365_val.txt", "val_256", places365_line),
                    ClassFolders("val"),
                ),
            ),
            BenchmarkSplit("val-256", 36_500, (ListFile("places365_val.txt", "val_256", places365_line),)),
        ),
        (
            Archive("filelist_places365-standard.tar", ("places365_val.txt",), ".", "http://places2.csail.mit.edu/"),
            Archive("val_large.tar", ("val_large",), ".", "http://places2.csail.mit.edu/"),
            Archive("val_256.tar", ("val_256",), ".", "http://places2.csail.mit.edu/"),
        ),
        aliases=("places-365",),
    ),
    Benchmark(
        "sun397",
        "SUN397: 19,850 test images of the CoOp suite's split, which are those of official partition 1",
        "sun397",
        (
            *_coop("split_zhou_SUN397.json", ("SUN397",), (19_850, 3_970, 15_880), by_letter),
            *(
                BenchmarkSplit(
                    f"test{partition}",
                    19_850,
                    tuple(
                        ListFile(f"{folder}Testing_{partition:02d}.txt", "SUN397", sun397_line)
                        for folder in ("", "Partitions/")
                    ),
                )
                for partition in range(1, 11)
            ),
            BenchmarkSplit("all", 108_754, (ClassFolders("SUN397", under_letters),)),
        ),
        (
            Archive(
                "Partitions.zip", ("Testing", "Partitions"), ".", "https://vision.princeton.edu/projects/2010/SUN/"
            ),
            Archive("SUN397.tar.gz", ("SUN397",), ".", "https://vision.princeton.edu/projects/2010/SUN/"),
        ),
        aliases=("sun-397",),
    ),
    Benchmark(
        "eurosat",
        "EuroSAT (RGB): 8,100 test images of the CoOp suite's split; it has no official one",
        "eurosat",
        (
            *_coop("split_zhou_EuroSAT.json", ("2750", "EuroSAT_RGB"), (8_100, 5_400, 13_500)),
            BenchmarkSplit("all", 27_000, (ClassFolders("2750"), ClassFolders("EuroSAT_RGB"))),
        ),
        (Archive("EuroSAT.zip", ("2750",), ".", "https://github.com/phelber/EuroSAT"),),
        aliases=("eurosat-rgb",),
    ),
)

_OBJECTS = (
    Benchmark(
        "caltech101",
        "Caltech101: 2,465 test images of the CoOp suite's split; it has no official one",
        "caltech101",
        (
            *_coop(
                "split_zhou_Caltech101.json",
                ("101_ObjectCategories",),
                (2_465, 1_649, 4_128),
                without=("Faces_easy",),
            ),
            BenchmarkSplit("all", 8_677, (ClassFolders("101_ObjectCategories", ignored=("BACKGROUND_Google",)),)),
        ),
        (
            Archive(
                "101_ObjectCategories.tar.gz",
                ("101_ObjectCategories",),
                ".",
                "https://data.caltech.edu/records/mzrjq-6wc02",
            ),
        ),
        aliases=(
            "caltech-101",
            "101-objectcategories",
        ),
    ),
    Benchmark(
        "ucf101",
        "UCF101, the middle frame of each video: 3,783 test frames",
        "ucf101",
        (
            *_coop("split_zhou_UCF101.json", ("UCF-101-midframes",), (3_783, 1_898, 7_639)),
            BenchmarkSplit(
                "test1", 3_783, (ListFile("ucfTrainTestlist/testlist01.txt", "UCF-101-midframes", ucf101_line),)
            ),
            BenchmarkSplit("all", 13_320, (ClassFolders("UCF-101-midframes"),)),
        ),
        (Archive("UCF-101-midframes.zip", ("UCF-101-midframes",), ".", _COOP),),
        aliases=(
            "ucf-101",
            "ucf",
        ),
    ),
    Benchmark(
        "cifar10",
        "CIFAR-10 in its binary version, or as folders of images: 10,000 test images",
        "cifar10",
        (
            BenchmarkSplit(
                "test",
                10_000,
                (
                    CifarBinary(("test_batch.bin",), 1, "test_batch", "cifar-10-binary.tar.gz"),
                    ClassFolders("test"),
                ),
            ),
            BenchmarkSplit(
                "train",
                50_000,
                (
                    CifarBinary(
                        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
                        1,
                        "data_batch_1",
                        "cifar-10-binary.tar.gz",
                    ),
                    ClassFolders("train"),
                ),
            ),
        ),
        (
            Archive(
                "cifar-10-binary.tar.gz",
                (),
                "..",
                "https://www.cs.toronto.edu/~kriz/cifar.html",
                "cifar-10-batches-bin",
            ),
        ),
        aliases=("cifar-10",),
    ),
    Benchmark(
        "cifar100",
        "CIFAR-100 in its binary version, or as folders of images: 10,000 test images, 100 fine labels",
        "cifar100",
        tuple(
            BenchmarkSplit(
                part,
                size,
                (CifarBinary((f"{part}.bin",), 2, part, "cifar-100-binary.tar.gz"), ClassFolders(part)),
            )
            for part, size in (("test", 10_000), ("train", 50_000))
        ),
        (
            Archive(
                "cifar-100-binary.tar.gz", (), "..", "https://www.cs.toronto.edu/~kriz/cifar.html", "cifar-100-binary"
            ),
        ),
        aliases=("cifar-100",),
    ),
)

#: All of them, in the order of lists.
BENCHMARKS: tuple[Benchmark, ...] = (*_IMAGENET, *_FINE, *_SCENES, *_OBJECTS)
