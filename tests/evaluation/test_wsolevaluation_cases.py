"""Every count, box and histogram of the stored runs of wsolevaluation: equal, not close."""

import numpy as np
import pytest

from wsol_utils.evaluation import wsolevaluation
from wsol_utils.evaluation.box_metrics import MaxBoxAcc, MaxBoxAccV2
from wsol_utils.evaluation.pixel_metrics import PxAP, precision_recall

METRICS = {"single": MaxBoxAcc, "multi": MaxBoxAccV2}
THRESHOLDS = [100, 1000]
IOU_THRESHOLDS = (0.3, 0.5, 0.7)
both_modes = pytest.mark.parametrize("contours", ["single", "multi"])
both_lists = pytest.mark.parametrize("n_thresholds", THRESHOLDS)


def piece(cases, name, index, offsets=None):
    """Piece `index` of a flat array whose pieces start at its offsets."""
    offsets = cases[f"{offsets or name}_off"]
    return cases[name][offsets[index] : offsets[index + 1]]


@pytest.fixture(scope="module")
def group_b(wsol_cases):
    sizes = wsol_cases["B_hw"].tolist()
    maps = [piece(wsol_cases, "B_maps_f64", k, "B_maps").reshape(size) for k, size in enumerate(sizes)]
    return [(score_map, piece(wsol_cases, "B_gt", k)) for k, score_map in enumerate(maps)]


def boxes_by_threshold(score_map, n_thresholds, contours):
    boxes, starts, which = wsolevaluation.predicted_boxes(
        score_map, wsolevaluation.threshold_list(n_thresholds), several=contours == "multi"
    )
    per_mask = np.split(boxes, starts[1:])
    return [per_mask[w] for w in which]


@both_lists
def test_thresholds(wsol_cases, n_thresholds):
    thresholds = wsolevaluation.threshold_list(n_thresholds)
    np.testing.assert_array_equal(thresholds, wsol_cases[f"thresholds_{n_thresholds}"])
    np.testing.assert_array_equal(thresholds, wsolevaluation.threshold_list(1000)[:: 1000 // n_thresholds])


@both_modes
@both_lists
def test_group_a_counts(wsol_cases, contours, n_thresholds):
    metric = METRICS[contours]("wsolevaluation", n_thresholds, IOU_THRESHOLDS)
    for k, (score_map, size) in enumerate(zip(wsol_cases["A_maps_u16"], wsol_cases["A_image_wh"], strict=True)):
        truth = wsolevaluation.scale_boxes(piece(wsol_cases, "A_gt", k), *size)
        np.testing.assert_array_equal(truth, piece(wsol_cases, "A_gt_resized", k, "A_gt"))
        metric.update(score_map / 65535, truth)
    result = metric.compute()
    prefix = f"A_{contours}_{n_thresholds}"
    np.testing.assert_array_equal(result.counts, wsol_cases[f"{prefix}_counts"])
    np.testing.assert_allclose(result.curve.max(axis=1), wsol_cases[f"{prefix}_maxboxacc_per_iou"], rtol=1e-15)
    assert result.value == pytest.approx(wsol_cases[f"{prefix}_maxboxacc_v2"], rel=1e-15)
    assert result.per_image.mean() == pytest.approx(result.value)
    best_iou = wsol_cases[f"{prefix}_best_iou"]
    at_best = np.searchsorted(result.thresholds, result.best_thresholds)
    np.testing.assert_array_equal(result.hits, np.array(IOU_THRESHOLDS)[:, None] <= best_iou[:, at_best].T)


@both_modes
def test_group_a_boxes(wsol_cases, contours):
    """The 100 thresholds are every tenth of the 1000, bit for bit (`test_thresholds`), so one pass serves both."""
    for k, score_map in enumerate(wsol_cases["A_maps_u16"]):
        found = boxes_by_threshold(score_map / 65535, 1000, contours)
        for n_thresholds in THRESHOLDS:
            kept = found[:: 1000 // n_thresholds]
            if contours == "single":
                np.testing.assert_array_equal(np.concatenate(kept), wsol_cases[f"A_single_{n_thresholds}_boxes"][k])
            else:
                np.testing.assert_array_equal([len(b) for b in kept], wsol_cases[f"A_multi_{n_thresholds}_nbox"][k])
                sums = [b.sum(axis=0) for b in kept]
                np.testing.assert_array_equal(sums, wsol_cases[f"A_multi_{n_thresholds}_boxsum"][k])


@both_modes
@both_lists
def test_group_b_counts_and_iou(wsol_cases, group_b, contours, n_thresholds):
    prefix = f"B_{contours}_{n_thresholds}"
    for k, (score_map, truth) in enumerate(group_b):
        metric = METRICS[contours]("wsolevaluation", n_thresholds, IOU_THRESHOLDS)
        metric.update(score_map, truth)
        counts = metric.compute().counts.sum(axis=1)
        np.testing.assert_array_equal(counts, wsol_cases[f"{prefix}_counts_per_map"][k], wsol_cases["B_names"][k])
        np.testing.assert_array_equal(metric._best_iou(score_map, truth), wsol_cases[f"{prefix}_best_iou"][k])


def test_group_b_boxes(wsol_cases, group_b):
    sorted_boxes = []
    for k, (score_map, _) in enumerate(group_b):
        single = np.concatenate(boxes_by_threshold(score_map, 1000, "single"))
        several = boxes_by_threshold(score_map, 1000, "multi")
        for n_thresholds in THRESHOLDS:
            every = slice(None, None, 1000 // n_thresholds)
            counts = [len(b) for b in several[every]]
            np.testing.assert_array_equal(single[every], wsol_cases[f"B_single_{n_thresholds}_boxes"][k])
            np.testing.assert_array_equal(counts, wsol_cases[f"B_multi_{n_thresholds}_nbox"][k])
        sums = [b.sum(axis=0) for b in several]
        np.testing.assert_array_equal(sums, wsol_cases["B_multi_1000_boxsum"][k])
        sorted_boxes += [b[np.lexsort(b.T[::-1])] for b in several[::10]]
    np.testing.assert_array_equal(np.concatenate(sorted_boxes), wsol_cases["B_multi_100_boxes_sorted"])


def test_group_c_resize_and_normalise(wsol_cases):
    for k, (h, w, height, width) in enumerate(wsol_cases["C_hwHW"].tolist()):
        raw = piece(wsol_cases, "C_low_f32", k, "C_low").reshape(h, w)
        stored = piece(wsol_cases, "C_norm_f32", k, "C_norm").reshape(height, width)
        found = wsolevaluation.resize_and_normalise(raw, height, width)
        np.testing.assert_allclose(found, stored, rtol=0, atol=1e-6, err_msg=wsol_cases["C_names"][k])
        boxes = np.concatenate(boxes_by_threshold(stored, 100, "single"))
        np.testing.assert_array_equal(boxes, wsol_cases["C_single_100_boxes"][k])


@pytest.fixture(scope="module")
def group_d(wsol_cases):
    """Map, object mask and ignored pixels of every image, the masks made from the stored instances."""
    first_instance = np.cumsum([0, *wsol_cases["D_inst_count"]])
    images = []
    for k, (height, width) in enumerate(wsol_cases["D_mask_hw"].tolist()):
        instances = [
            np.unpackbits(piece(wsol_cases, "D_inst_bits", i, "D_inst"), count=height * width).reshape(height, width)
            for i in range(first_instance[k], first_instance[k + 1])
        ]
        ignored = np.unpackbits(piece(wsol_cases, "D_ign_bits", k, "D_ign"), count=height * width)
        masks = wsolevaluation.object_and_ignored(instances, ignored.reshape(height, width))
        images.append((wsol_cases["D_maps_u16"][k] / 65535, *masks))
    return images


def test_group_d_masks(wsol_cases, group_d):
    for (_, mask, ignored), expected in zip(group_d, wsol_cases["D_gtmask_u8"], strict=True):
        np.testing.assert_array_equal(np.where(ignored, 255, mask), expected)


@both_lists
def test_group_d_pxap(wsol_cases, group_d, n_thresholds):
    metric = PxAP("wsolevaluation", n_thresholds)
    for k, image in enumerate(group_d):
        metric.update(*image)
        alone = PxAP("wsolevaluation", n_thresholds)
        alone.update(*image)
        assert alone.compute().value == pytest.approx(wsol_cases[f"D_{n_thresholds}_pxap_per_image"][k], abs=1e-10)
    result = metric.compute()
    np.testing.assert_array_equal(result.positives, wsol_cases[f"D_{n_thresholds}_hist_pos_per_image"])
    np.testing.assert_array_equal(result.negatives, wsol_cases[f"D_{n_thresholds}_hist_neg_per_image"])
    np.testing.assert_array_equal(result.precision, wsol_cases[f"D_{n_thresholds}_precision"])
    np.testing.assert_array_equal(result.recall, wsol_cases[f"D_{n_thresholds}_recall"])
    assert result.value == pytest.approx(wsol_cases[f"D_{n_thresholds}_pxap_pooled"], abs=1e-10)
    curve = precision_recall(result.positives.sum(axis=0), result.negatives.sum(axis=0))
    np.testing.assert_array_equal(curve, [result.precision, result.recall])


@both_lists
@pytest.mark.parametrize("edge", [0, 1, 2])
def test_group_d_histogram_edges(wsol_cases, group_d, n_thresholds, edge):
    metric = PxAP("wsolevaluation", n_thresholds)
    metric.update(wsol_cases["D_edge_maps_f64"][edge], *group_d[0][1:])
    result = metric.compute()
    prefix = f"D_{n_thresholds}_edge{edge}"
    np.testing.assert_array_equal(result.positives[0], wsol_cases[f"{prefix}_hist_pos"])
    np.testing.assert_array_equal(result.negatives[0], wsol_cases[f"{prefix}_hist_neg"])
    assert result.value == pytest.approx(wsol_cases[f"{prefix}_pxap"], abs=1e-10)
