import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest

from wsol_utils.display import plots, tables, widgets


@pytest.fixture(autouse=True)
def style():
    plots.use_house_style()
    yield
    plt.close("all")


def test_map_scale_is_fixed_and_signed_maps_are_centred():
    rng = np.random.default_rng(0)
    _, axes = plots.grid(1, 2)
    score_map = rng.normal(size=(6, 8))
    plots.show_map(axes[0, 0], np.abs(score_map))
    plots.show_map(axes[0, 1], score_map, signed=True)
    top = np.abs(score_map).max()
    assert axes[0, 0].images[0].get_clim() == (0.0, top)
    assert axes[0, 1].images[0].get_clim() == (-top, top)


def test_truth_is_green_and_solid_prediction_orange_and_dashed():
    _, axes = plots.grid(1, 1)
    plots.draw_box(axes[0, 0], (1, 2, 5, 6), "truth")
    plots.draw_box(axes[0, 0], (1, 2, 5, 6))
    truth, prediction = axes[0, 0].patches
    assert (truth.get_linestyle(), prediction.get_linestyle()) == ("-", "--")
    assert truth.get_bbox().bounds == (0.5, 1.5, 4, 4), "the box's edges are pixel edges"


def test_painted_boxes_keep_the_inside_and_the_house_colours():
    image = np.full((30, 40, 3), 7, np.uint8)
    truth = plots.paint_box(image, (5, 4, 35, 26), "truth")
    assert (truth[4, 5:35] == [0x1A, 0x98, 0x50]).all()
    assert (truth[6:24, 7:33] == 7).all()
    assert (truth[:4] == 7).all()
    prediction = plots.paint_box(image, (5, 4, 35, 26))
    painted = (prediction[4, 5:35] == [0xF4, 0x6D, 0x43]).all(1)
    assert 0.3 < painted.mean() < 0.9, "dashed"
    assert (image == 7).all()


def test_seed_colours_are_the_talks():
    image = plots.seed_image(np.array([[0, 1, 2]]))
    red, blue, cyan = image[0].astype(int)
    assert red.argmax() == 0
    assert blue.argmax() == 2
    assert cyan[1] > 200
    assert cyan[2] > 200
    assert cyan[0] < 100


def test_contact_sheet_places_images_in_rows():
    images = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = plots.contact_sheet(images, n_columns=2, gap=1)
    assert sheet.shape == (9, 13, 3)
    assert (sheet[0, 0, 0], sheet[0, 7, 0], sheet[5, 0, 0], sheet[4, 0, 0]) == (10, 20, 30, 255)


def test_photograph_is_a_jpeg_and_closes_the_figure():
    figure, axes = plots.grid(1, 1)
    plots.show_image(axes[0, 0], np.zeros((4, 4, 3), np.uint8))
    assert plots.photograph(figure).data[:2] == b"\xff\xd8"
    assert not plt.get_fignums()


def test_tables_escape_bars():
    assert tables.markdown_table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"


def test_every_control_redraws():
    def draw(level, kind):
        return np.full((4, 4, 3), level + 100 * (kind == "b"), np.uint8)

    view = widgets.explore(draw, level=ipywidgets.IntSlider(max=50), kind=ipywidgets.Dropdown(options=["a", "b"]))
    for control, value in zip(view.children, (7, "b"), strict=False):
        before = view.children[-1].value
        control.value = value
        assert view.children[-1].value != before


def test_a_signal_is_grey_at_zero_and_saturates_at_its_quantile():
    signal = np.zeros((3, 20, 20))
    signal[0, 0, 0], signal[1, 0, 1], signal[2, 0, 2] = 100, -1, 1
    image = plots.signal_image(signal, 0.999)
    assert image.shape == (20, 20, 3)
    assert (image[1:] == 127).all()
    assert image[0, 0].tolist() == [255, 127, 127]
    assert image[0, 1, 1] < 127 < image[0, 2, 2]


def test_boxes_of_two_kinds_lie_on_the_image():
    _, axes = plots.grid(1, 1)
    ax = plots.show_boxes(axes[0, 0], np.zeros((20, 30, 3), np.uint8), [[1, 2, 5, 8]], [[0, 0, 9, 9]], "boxes")
    truth, prediction = ax.patches
    assert ax.get_title(loc="left") + ax.get_title() == "boxes"
    assert truth.get_linestyle() == "-"
    assert prediction.get_linestyle() == "--"
    assert prediction.get_bbox().bounds == (0.5, 1.5, 4, 6)


def test_a_sheet_of_rows_of_unequal_length_closes_its_figure():
    image = np.zeros((4, 4, 3), np.uint8)
    sheet = plots.picture_sheet([[(image, "above"), (image,)], [(image, "above", "below")]], "title", names=["a", "b"])
    assert sheet.data[:2] == b"\xff\xd8"
    assert not plt.get_fignums()


def test_controls_are_dotted_among_curves():
    ax = plots.curves({"fooled": [1, 2, 3], "random signs": [1, 1, 1]}, [1, 10, 100], xscale="log", title="rises")
    assert [line.get_linestyle() for line in ax.lines] == ["-", ":"]
    assert ax.get_xscale() == "log"
    assert ax.lines[0].get_xdata().tolist() == [1, 10, 100]


def test_answers_wear_the_colour_of_their_question():
    _, axes = plots.grid(1, 2)
    boxes = np.array([[1, 1, 4, 4], [3, 3, 6, 6]])
    image = np.zeros((8, 8, 3), np.uint8)
    plots.show_answers(axes[0, 0], image, boxes, boxes + 1)
    colours = [patch.get_edgecolor() for patch in axes[0, 0].patches]
    assert [patch.get_linestyle() for patch in axes[0, 0].patches] == ["-", "--"] * 2
    assert colours[0] == colours[1] != colours[2] == colours[3]
    plots.show_answers(axes[0, 1], image, boxes[:, :2], boxes[:, 2:])
    assert [line.get_marker() for line in axes[0, 1].lines] == ["o", "x"] * 2


def test_named_boxes_are_red_where_wrong_and_a_glow_leaves_the_image_bright():
    _, axes = plots.grid(1, 2)
    plots.name_boxes(axes[0, 0], [[1, 1, 4, 4], [3, 3, 6, 6]], ["bird", "fish"], [True, False])
    assert [(text.get_text(), text.get_color()) for text in axes[0, 0].texts] == [
        ("bird", "black"),
        ("fish", "#d73027"),
    ]
    score_map = np.zeros((8, 8))
    score_map[2, 3] = 4
    plots.show_glow(axes[0, 1], np.zeros((8, 8, 3), np.uint8), score_map)
    opacity = axes[0, 1].images[1].get_alpha()
    assert opacity[2, 3] == 0.75
    assert opacity.sum() == 0.75
