"""What the threshold, the centre and a background tied to the label do to maps learnt from labels, on drawn scenes."""

from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
from tqdm import tqdm

from wsol_utils.companion.measure import Table
from wsol_utils.companion.measurements.weak_localisers import (
    TRAINING,
    WIDTH,
    box_metric,
    cams,
    centre_gaussians,
    differences,
    judge,
    tied_scenes,
    trained,
    values,
)
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.datasets.scene_shapes import Sketch
from wsol_utils.datasets.scenes import CLASS_NAMES, draw_scene
from wsol_utils.datasets.splits import SPLIT_NAMES, Split
from wsol_utils.evaluation import claims, metrics, statistics
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.evaluation.statistics import Interval
from wsol_utils.methods import cam, convnet, networks, saliency

SEEDS, N_VAL, N_TEST, N_RESAMPLES = (0, 1, 2), 200, 400, 1000
BLUR = 0.03  # of the side
PUBLISHED, PLAUSIBLE = 0.2, (0.1, 0.5)  # thresholds; Grad-CAM's published one is 0.15
PLACES, LENGTHS, MARGIN = {"in the centre": 0.0, "in a corner": 1.0}, (0.44, 0.6), 0.012  # shares of the side
STRONG = 10  # points: the centre is strong up to that far behind CAM, and has collapsed up to that far above uniform
STRENGTHS, FLAT = (0.0, 0.5, 0.9, 1.0), 5  # FLAT in points
CENTRE, UNIFORM = "centre Gaussian", "uniform map"
LEARNT = (
    f"Each ConvNet (GAP unless said otherwise, width {WIDTH}, jitter) learnt from {TRAINING['n_images']:,} scenes in "
    f"{TRAINING['n_epochs']} epochs."
)


def thresholds() -> Table:
    """C9.1: how far box accuracy varies with the threshold, and how far with the method."""
    runs = [remember(_hits, seed=seed, n_test=N_TEST, trained_on=TRAINING) for seed in tqdm(SEEDS, "seeds")]
    tried = runs[0]["thresholds"]
    hits = {name: np.array([run[name] for run in runs]) for name in runs[0] if name != "thresholds"}  # (seeds, T, N)
    plausible = (tried >= PLAUSIBLE[0]) & (tried <= PLAUSIBLE[1])
    rows = []
    for name, own in hits.items():
        curves = 100 * own.mean(2)
        best = curves.argmax(1)
        at_best = 100.0 * own[np.arange(len(own)), best]
        at_published = 100.0 * own[:, np.abs(tried - PUBLISHED).argmin()]
        of_thresholds = (np.sqrt(curves[:, some].var(1, ddof=1).mean()) for some in (plausible, slice(None)))
        rows.append(
            [
                name,
                str(statistics.bootstrap_interval(at_best)),
                f"{100 * tried[best].mean():.0f}",
                str(statistics.bootstrap_interval(at_published)),
                *(f"{spread:.1f}" for spread in of_thresholds),
            ]
        )
    between, within, everywhere = spreads(np.stack([hits[name] for name in hits if name != CENTRE], axis=1), plausible)
    rows.append(["spread", str(_interval(between)), "", "", str(_interval(within)), str(_interval(everywhere))])
    difference, data = _interval(within - between), f"scenes, {N_TEST} test images"
    low, high = (f"{100 * share:.0f}" for share in PLAUSIBLE)
    claim = ClaimResult(
        "C9.1",
        difference.mean,
        "points",
        data,
        SEEDS,
        claims.sign(0, difference),
        difference,
        {"between methods": between[0], "thresholds in the range": within[0], "all thresholds": everywhere[0]},
        f"spread over thresholds of {low} to {high} % minus spread over methods at their best thresholds",
    )
    return Table(
        title="The threshold and the method",
        data=data,
        seeds=SEEDS,
        header=[
            "map",
            "boxes right at its best threshold, %",
            "that threshold, % of the maximum",
            f"boxes right at {100 * PUBLISHED:.0f} %, %",
            f"spread over {low} to {high} %, points",
            "spread over all thresholds, points",
        ],
        rows=rows,
        note="The class is given. Best thresholds are those of the test images, as the claim has it. Spreads "
        f"are standard deviations; the last row holds that over methods ({CENTRE} left out), then the methods' root "
        f"mean square. {low} to {high} % was set beforehand, around the published 15 and 20 %. "
        f"GAP and GMP are the networks' poolings; the blur is {100 * BLUR:.0f} % of the side. {LEARNT}",
        claims=[claim],
    )


def spreads(hits: np.ndarray, plausible: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spread in points between methods at their best thresholds, over plausible thresholds, and over all of them.

    `hits` is bool (seeds, methods, T, N), `plausible` bool (T,). Each spread is (1 + N_RESAMPLES,): that of the images
    as they are, then those of images drawn again.
    """
    n_images = hits.shape[-1]
    drawn = np.random.default_rng(0).multinomial(n_images, np.full(n_images, 1 / n_images), N_RESAMPLES)
    curves = 100 * hits.astype(np.float64) @ np.vstack([np.ones(n_images), drawn]).T / n_images
    within, everywhere = (np.sqrt(curves[:, :, some].var(2, ddof=1).mean((0, 1))) for some in (plausible, slice(None)))
    return curves.max(2).mean(0).std(0, ddof=1), within, everywhere


def _interval(values: np.ndarray) -> Interval:
    """The first value, with the bootstrap interval that the others make."""
    return Interval(values[0], *np.percentile(values[1:], [2.5, 97.5]))


def _hits(seed: int, n_test: int, trained_on: dict[str, int]) -> Arrays:
    """Whether each threshold gives the right box of each test image, bool (T, N), by method, and the thresholds."""
    test = tied_scenes(0.0).split("test", n_test)
    gap, gmp = (trained(0.0, head, seed, trained_on) for head in ("gap", "gmp"))
    parts = np.array_split(np.arange(n_test), -(-n_test // 100))
    grad_cams = [
        cam.grad_cam(gap, gap.features, networks.normalise(test.images[some]), test.labels[some]) for some in parts
    ]
    gradients = saliency.saliency_map(gap, networks.normalise(test.images), test.labels)
    maps = {
        "CAM, GAP": cams(gap, test),
        "CAM, GMP": cams(gmp, test),
        "Grad-CAM one layer below, GAP": np.concatenate(grad_cams),
        "saliency, GAP": gradients,
        "saliency blurred, GAP": [cv2.GaussianBlur(one, (0, 0), BLUR * len(one)) for one in gradients],
        "saliency of ten crops, GAP": saliency.ten_crop_saliency(gap, test.images, test.labels),
        CENTRE: centre_gaussians(test),
    }
    found = {name: box_metric(metrics.MaxBoxAcc, own, test) for name, own in maps.items()}
    tried = found[CENTRE].thresholds
    hits = {name: np.array([metric.compute([t]).hits[0] for t in tried]) for name, metric in found.items()}
    return {"thresholds": tried} | hits


def centre() -> Table:
    """C9.3: boxes and pixels of a Gaussian in the middle, of CAM and of a uniform map, objects centred and not."""
    gaps = [trained(0.0, "gap", seed, TRAINING) for seed in SEEDS]
    makers = {
        "CAM": [partial(cams, network) for network in gaps],
        CENTRE: [centre_gaussians],
        UNIFORM: [lambda split: np.ones(split.masks.shape)],
    }
    rows, cam_over, over_uniform = [], {}, {}
    for place, share in tqdm(PLACES.items(), "places"):
        val, test = (placed(name, n_images, share) for name, n_images in (("val", N_VAL), ("test", N_TEST)))
        found = {name: [judge(make, val, test, metrics.MaxBoxAccV2) for make in own] for name, own in makers.items()}
        behind = {name: differences(found["CAM"], found[name]) for name in (CENTRE, UNIFORM)}
        cam_over[place] = behind[CENTRE]
        over_uniform[place] = differences(found[CENTRE], found[UNIFORM])
        for name, judged in found.items():
            rows.append([place, name, *map(str, values(judged)), *map(str, behind.get(name, ("", "")))])
    middle, corner = PLACES
    strong = [_less(lead, STRONG) for lead in cam_over[middle]]
    collapses = [claims.sign(0, _minus(lead, STRONG)) for lead in cam_over[corner]]
    like_uniform = [_less(lead, STRONG) for lead in over_uniform[corner]]
    control = all(claims.sign(0, lead) == claims.REPRODUCED for lead in over_uniform[middle])
    verdict = claims.all_of([*strong, *collapses, *like_uniform]) if control else claims.NOT_RESOLVABLE
    data = f"scenes, {N_TEST} test images with the object {middle}, and as many with it {corner}"
    kinds = ("boxes", "pixels")
    controls = {
        f"{what}, {kind}, {place}": lead.mean
        for what, leads in (("CAM minus centre", cam_over), ("centre minus uniform", over_uniform))
        for place, pair in leads.items()
        for kind, lead in zip(kinds, pair, strict=True)
    }
    return Table(
        title="A map that never looks: the centre Gaussian",
        data=data,
        seeds=SEEDS,
        header=[
            "objects",
            "map",
            "boxes right, mean of IoU 0.3, 0.5, 0.7, %",
            "PxAP, %",
            "boxes: CAM minus this, points",
            "PxAP: CAM minus this, points",
        ],
        rows=rows,
        note="Both versions show the same scenes, with the object, drawn whole, at another place. Thresholds are the "
        f"best on {N_VAL} validation scenes of the same version; any of a map's regions may be the box (MaxBoxAccV2). "
        f"Set beforehand: the Gaussian is strong where it is less than {STRONG} points behind CAM; it has collapsed "
        f"where it is more than {STRONG} points behind CAM and less than {STRONG} above the uniform map, whose box is "
        f"the whole image. Both are asked of boxes and of PxAP. {LEARNT}",
        claims=[
            ClaimResult(
                "C9.3",
                cam_over[corner][0].mean,
                "points",
                data,
                SEEDS,
                verdict,
                cam_over[corner][0],
                controls,
                f"lead of CAM over the Gaussian in boxes, objects {corner}",
            )
        ],
    )


def placed(name: str, n_images: int, share: float) -> Split:
    """Scenes of a split whose object is that share of the way from the image's centre to one of its corners."""
    labels = np.arange(n_images) % len(CLASS_NAMES)
    drawn = [
        draw_scene(np.random.default_rng([SPLIT_NAMES.index(name), i]), [label], arrange=partial(_place, share))
        for i, label in enumerate(labels.tolist())
    ]
    return Split(
        name=name,
        images=np.stack([scene.image for scene in drawn]),
        labels=labels,
        label_sets=np.eye(len(CLASS_NAMES), dtype=bool)[labels],
        names=[f"placed-{name}-{i}" for i in range(n_images)],
        boxes=[scene.boxes for scene in drawn],
        box_labels=[scene.classes for scene in drawn],
        masks=np.stack([scene.instance_map > 0 for scene in drawn]),
    )


def _place(share: float, generator: np.random.Generator, sketches: Sequence[Sketch]) -> list[tuple[float, ...]]:
    """The one object's place: of the same length, on the way to the same corner, whatever the share of the way."""
    length = generator.uniform(*LENGTHS)
    corner = generator.choice([-1, 1], 2) * (0.5 - MARGIN - length / 2 * np.array(sketches[0].extent))
    return [(*(0.5 + share * corner).tolist(), length)]


def tied() -> Table:
    """C9.6: what CAM keeps of the object as the background comes to follow from the label."""
    splits = {s: [tied_scenes(s).split(*which) for which in (("val", N_VAL), ("test", N_TEST))] for s in STRENGTHS}
    of = {s: [trained(s, "gap", seed, TRAINING) for seed in SEEDS] for s in tqdm(STRENGTHS, "strengths")}
    pairs = {pair for s in STRENGTHS for pair in ((s, s), (0.0, s), (s, 0.0))}  # learnt on, asked on
    judged = {
        (learnt, asked): [judge(partial(cams, network), *splits[asked]) for network in of[learnt]]
        for learnt, asked in tqdm(pairs, "strengths learnt and asked")
    }
    found = {pair: values(of_seeds) for pair, of_seeds in judged.items()}
    rows = []
    for s in STRENGTHS:
        right, pixels = found[s, s]
        named = [_named(of[s], splits[asked][1]) for asked in (s, 0.0)]
        best = np.mean([accuracy.best_thresholds[0] for accuracy, _ in judged[s, s]])
        others = [found[pair][1] for pair in ((s, 0.0), (0.0, s))]
        rows.append([f"{100 * s:.0f}", *map(str, [*named, pixels, right]), f"{100 * best:.0f}", *map(str, others)])
    first, last = STRENGTHS[0], STRENGTHS[-1]
    falling = [Interval(-own.mean, -own.high, -own.low) for own in (found[s, s][1] for s in STRENGTHS)]
    right_fall, fall = differences(judged[first, first], judged[last, last])
    changes = [differences(judged[0.0, s], judged[0.0, 0.0])[1] for s in STRENGTHS[1:]]
    flat = all(claims.equiv(FLAT, change) == claims.REPRODUCED for change in changes)
    data = f"scenes, view tied, {N_TEST} test images for each strength"
    return Table(
        title="A background tied to the label",
        data=data,
        seeds=SEEDS,
        header=[
            "backgrounds tied to the class, %",
            "named rightly, %",
            "named rightly before free backgrounds, %",
            "PxAP, %",
            "boxes right, %",
            "best threshold, % of the maximum",
            "PxAP before free backgrounds, %",
            "PxAP of networks that learnt from free backgrounds, %",
        ],
        rows=rows,
        note="A GAP network learns from scenes of each strength; its class activation maps are judged on other scenes "
        "of that strength, the class given, where the header says nothing else. The threshold is the best on "
        f"{N_VAL} validation scenes of the same strength. Control, the last column: networks that learnt from free "
        f"backgrounds, asked about the same test images; flat if no interval of its change reaches {FLAT} points. "
        f"{LEARNT}",
        claims=[
            ClaimResult(
                "C9.6",
                fall.mean,
                "points of PxAP",
                data,
                SEEDS,
                claims.mono(falling, fall, flat),
                fall,
                {"fall of boxes right": right_fall.mean, "fall of the control": -changes[-1].mean},
                "fall from free to wholly tied backgrounds",
            )
        ],
    )


def _named(of_seeds: Sequence[convnet.ConvNet], split: Split) -> Interval:
    answers = [networks.predict(network, split.images).argmax(1) for network in of_seeds]
    return statistics.bootstrap_interval([100.0 * (answer == split.labels) for answer in answers])


def _minus(interval: Interval, points: float) -> Interval:
    return Interval(interval.mean - points, interval.low - points, interval.high - points)


def _less(interval: Interval, points: float) -> str:
    """Judge whether a difference is less than so many points."""
    return claims.sign(0, Interval(points - interval.mean, points - interval.high, points - interval.low))
