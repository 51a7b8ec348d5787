"""All metrics in one place: boxes, pixels, average precision, points, detections. Each is written in its own module."""

from wsol_utils.evaluation.box_metrics import BoxAccuracy, MaxBoxAcc, MaxBoxAccV2
from wsol_utils.evaluation.detection_metrics import (
    background_shares,
    detection_average_precision,
    detection_map,
    error_shares,
    first_hits,
    map_difference,
    map_interval,
    match_detections,
    recall_at,
)
from wsol_utils.evaluation.pixel_metrics import PixelPrecision, PxAP, pxap_difference, pxap_interval, share_inside
from wsol_utils.evaluation.points import (
    any_guess_hits,
    localisation_hits,
    point_in_boxes,
    point_of_maximum,
    point_on_mask,
)
from wsol_utils.evaluation.precision import average_precision, mean_average_precision, point_average_precision

__all__ = [
    "BoxAccuracy",
    "MaxBoxAcc",
    "MaxBoxAccV2",
    "PixelPrecision",
    "PxAP",
    "any_guess_hits",
    "average_precision",
    "background_shares",
    "detection_average_precision",
    "detection_map",
    "error_shares",
    "first_hits",
    "localisation_hits",
    "map_difference",
    "map_interval",
    "match_detections",
    "mean_average_precision",
    "point_average_precision",
    "point_in_boxes",
    "point_of_maximum",
    "point_on_mask",
    "pxap_difference",
    "pxap_interval",
    "recall_at",
    "share_inside",
]
