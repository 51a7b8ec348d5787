"""Which of ImageNet's thousand classes (ILSVRC-2012) VOC's classes stand for."""

# Runs of indices, both ends counted. ImageNet has no person.
VOC = {
    "aeroplane": "404 895",  # airliner, warplane
    "bicycle": "444 671",  # tandem, mountain bike
    "bird": "7-24 80-100 127-146",  # cock to great grey owl, black grouse to black swan, white stork to albatross
    "boat": "472 484 554 576 625 628 780 814 871 914",  # canoe, catamaran, fireboat, gondola, lifeboat …
    "bottle": "440 720 737 898 907",  # beer, pill, pop, water, wine
    "bus": "654 779 874",  # minibus, school bus, trolleybus
    "car": "407 436 468 511 609 627 656 661 751 817",  # ambulance, beach wagon, cab, convertible, jeep, limousine …
    "cat": "281-285",  # tabby to Egyptian cat
    "chair": "423 559 765",  # barber chair, folding chair, rocking chair
    "cow": "345",  # ox
    "diningtable": "532",
    "dog": "151-268",  # Chihuahua to Mexican hairless
    "horse": "339",  # sorrel
    "motorbike": "665 670",  # moped, motor scooter
    "pottedplant": "738",  # flowerpot
    "sheep": "348-349",  # ram, bighorn
    "sofa": "831",  # studio couch
    "train": "466 547 705 820",  # bullet train, electric locomotive, passenger car, steam locomotive
    "tvmonitor": "664 782 851",  # monitor, screen, television
}


def voc_groups() -> dict[str, list[int]]:
    """The ImageNet indices of each class of VOC that has any: all but person.

    >>> groups = voc_groups()
    >>> groups["cat"], len(groups["dog"]), len(groups)
    ([281, 282, 283, 284, 285], 118, 19)
    """
    return {name: [index for run in runs.split() for index in _indices(run)] for name, runs in VOC.items()}


def _indices(run: str) -> range:
    first, _, last = run.partition("-")
    return range(int(first), int(last or first) + 1)
