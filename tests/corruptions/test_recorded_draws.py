"""Random corruptions: the deterministic part, fed with the same draws, against the package and against plain references."""

import numpy as np
import pytest
import torch
from pictures import chw, differing, hwc, make_images

from rtalib import rng
from rtalib.corruptions import api, blur, digital, frost, weather
from rtalib.corruptions.constants import CONSTANTS
from rtalib.corruptions.draws import Words, units

SEVERITIES = range(1, 6)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return make_images(24)


def constants_of(benchmark: str, name: str, severity: int):
    return CONSTANTS[benchmark][name][severity - 1]


def draws_of(name: str, images: torch.Tensor, constants, seed: int = 3) -> tuple[torch.Tensor, ...]:
    words = Words(seed, torch.arange(len(images)), rng.stream(name))
    return api.TYPES[name].draw(words, *images.shape[2:], constants)


@pytest.fixture
def peer():
    pytest.importorskip("imagecorruptions")
    from imagecorruptions import corruptions

    return corruptions


def feed(monkeypatch, **functions):
    """Replace NumPy's global draws, which the package uses, by functions."""
    for name, function in functions.items():
        monkeypatch.setattr(np.random, name, function)


def uniform_from(values):
    """np.random.uniform that scales recorded numbers in [0, 1) in order."""
    values = np.asarray(values).ravel()
    used = 0

    def uniform(low, high, shape=(), size=None):
        nonlocal used
        shape = shape if size is None else size
        count = int(np.prod(shape, dtype=int))
        part, used = values[used : used + count], used + count
        return (low + (high - low) * part).reshape(shape) if shape != () else low + (high - low) * part[0]

    return uniform


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [(32, 32), (40, 56), (101, 300)])
def test_fog_equals_the_package(monkeypatch, peer, severity, size):
    images = make_images(8, *size)
    constants = constants_of("imagecorruptions", "fog", severity)
    (noise,) = draws_of("fog", images, constants)
    count = weather.plasma_side(*size) ** 2 - 1
    expected = []
    for image, row in zip(hwc(images), units(noise, count) if isinstance(noise, Words) else noise, strict=True):
        feed(monkeypatch, uniform=uniform_from(row))
        expected.append(peer.fog(image, severity))
    assert torch.equal(weather.fog(images, constants, noise), chw(np.stack(expected)))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [(32, 32), (101, 300)])
def test_motion_blur_equals_the_package(monkeypatch, peer, severity, size):
    images = make_images(12 if size == (32, 32) else 1, *size)
    constants = constants_of("imagecorruptions", "motion_blur", severity)
    (angle,) = draws_of("motion_blur", images, constants)
    expected = []
    for image, turn in zip(hwc(images), angle.tolist(), strict=True):
        feed(monkeypatch, uniform=lambda low, high, turn=turn: turn)
        expected.append(peer.motion_blur(image, severity))
    assert torch.equal(blur.motion_blur(images, constants, angle), chw(np.stack(expected)))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [(32, 32), (101, 300)])
def test_snow_equals_the_package(monkeypatch, peer, severity, size):
    images = make_images(12 if size == (32, 32) else 1, *size)
    constants = constants_of("imagecorruptions", "snow", severity)
    layer, angle = draws_of("snow", images, constants)
    expected = []
    for image, flakes, turn in zip(hwc(images), layer.numpy(), angle.tolist(), strict=True):
        feed(monkeypatch, uniform=lambda low, high, turn=turn: turn, normal=lambda size, loc, scale, flakes=flakes: flakes.copy())
        expected.append(peer.snow(image, severity))
    assert torch.equal(weather.snow(images, constants, layer, angle), chw(np.stack(expected)))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [(32, 32), (101, 300)])
def test_elastic_transform_equals_the_package(monkeypatch, peer, severity, size):
    images = make_images(12 if size == (32, 32) else 1, *size)
    constants = constants_of("imagecorruptions", "elastic_transform", severity)
    _, dx, dy = draws = draws_of("elastic_transform", images, constants)
    expected = []
    for image, x, y in zip(hwc(images), dx.numpy(), dy.numpy(), strict=True):
        fields = iter((x, y))
        feed(monkeypatch, uniform=lambda low, high, size, fields=fields: high * next(fields))
        expected.append(peer.elastic_transform(image, severity))
    assert torch.equal(digital.elastic_transform(images, constants, *draws), chw(np.stack(expected)))


@pytest.mark.parametrize("benchmark", CONSTANTS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_equals_the_sequential_scan(monkeypatch, peer, images, benchmark, severity):
    """The package's own scan, run as plain Python on recorded offsets; also with the constants of the other two benchmarks."""
    from skimage.filters import gaussian

    images = images[:: 3 if benchmark == "imagecorruptions" else 6]
    constants = constants_of(benchmark, "glass_blur", severity)
    (offsets,) = draws_of("glass_blur", images, constants)
    scan = peer._shuffle_pixels_njit_glass_blur.py_func
    monkeypatch.setattr(np.random, "seed", lambda seed: None)
    expected = []
    for image, moves in zip(hwc(images), offsets.numpy(), strict=True):
        smooth = np.uint8(gaussian(image / 255.0, sigma=constants.sigma, channel_axis=-1) * 255)
        queue = iter(moves.reshape(-1, 2))
        feed(monkeypatch, randint=lambda low, high, size, queue=queue: next(queue))
        shuffled = scan(*image.shape[:2], smooth, tuple(constants))
        expected.append(np.clip(gaussian(shuffled / 255.0, sigma=constants.sigma, channel_axis=-1), 0, 1) * 255)
    assert torch.equal(blur.glass_blur(images, constants, offsets), chw(np.stack(expected)))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost_equals_the_package_with_its_textures(monkeypatch, peer, images, severity):
    monkeypatch.setenv("RTALIB_FROST", "package")
    constants = constants_of("imagecorruptions", "frost", severity)
    (crop,) = draws_of("frost", images, constants)
    expected = []
    for image, draw in zip(hwc(images), crop.tolist(), strict=True):
        queue = iter(draw)
        feed(monkeypatch, randint=lambda *bounds, queue=queue: next(queue))
        expected.append(peer.frost(image, severity))
    share, largest = differing(frost.frost(images, constants, crop), chw(np.stack(expected)))
    # the bicubic enlargement of the texture is done in float64 here, in 11-bit fixed point by OpenCV
    assert largest <= 1 and share < 0.02


@pytest.mark.parametrize("benchmark, factor", [("cifar10-c", 0.2), ("tiny-imagenet-c", 0.3)])
def test_frost_equals_resize_crop_and_add(monkeypatch, benchmark, factor):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("imagecorruptions")
    monkeypatch.setenv("RTALIB_FROST", "package")
    images = make_images(16)
    for severity in SEVERITIES:
        constants = constants_of(benchmark, "frost", severity)
        (crop,) = draws_of("frost", images, constants, seed=severity)
        expected = []
        for image, (texture, row, column) in zip(hwc(images), crop.tolist(), strict=True):
            path = frost.frost_folder() / list(frost.TEXTURES)[texture]
            small = cv2.resize(cv2.imread(str(path)), (0, 0), fx=factor, fy=factor)
            part = small[row : row + 32, column : column + 32][..., ::-1]
            expected.append(np.clip(constants.image * image + constants.frost * part, 0, 255))
        assert torch.equal(frost.frost(images, constants, crop), chw(np.stack(expected)))


def plain_line_blur(plane: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Weighted sum of samples along a line, one pixel at a time in the formula, for one float plane (H,W)."""
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
    total = np.zeros(plane.shape)
    for i, weight in enumerate(weights / weights.sum()):
        dx, dy = (int(np.ceil(i * part - 0.5)) for part in (np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))))
        total += weight * plane[(y + dy).clip(0, plane.shape[0] - 1), (x + dx).clip(0, plane.shape[1] - 1)]
    return total


@pytest.mark.parametrize("benchmark, side", [("cifar10-c", 32), ("tiny-imagenet-c", 64)])
def test_motion_blur_follows_the_formula(benchmark, side):
    images = make_images(8, side, side)
    for severity in SEVERITIES:
        constants = constants_of(benchmark, "motion_blur", severity)
        (angle,) = draws_of("motion_blur", images, constants)
        expected = [
            [np.floor(plain_line_blur(plane.double().numpy(), *constants[:2], turn) + 1 / 514) for plane in image]
            for image, turn in zip(images, angle.tolist(), strict=True)
        ]
        assert torch.equal(blur.motion_blur(images, constants, angle), torch.from_numpy(np.array(expected).astype(np.uint8)))


@pytest.mark.parametrize("benchmark, side", [("cifar10-c", 32), ("tiny-imagenet-c", 64)])
def test_snow_follows_the_recipe(benchmark, side):
    ndimage, cv2 = pytest.importorskip("scipy.ndimage"), pytest.importorskip("cv2")
    images = make_images(8, side, side)
    for severity in SEVERITIES:
        constants = constants_of(benchmark, "snow", severity)
        layer, angle = draws_of("snow", images, constants)
        expected = []
        for image, flakes, turn in zip(hwc(images), layer.numpy(), angle.tolist(), strict=True):
            crop = int(np.ceil(side / constants.zoom))
            top = (side - crop) // 2
            zoomed = ndimage.zoom(flakes[top : top + crop, top : top + crop], constants.zoom, order=1)
            trim = (len(zoomed) - side) // 2
            zoomed = zoomed[trim : trim + side, trim : trim + side]
            zoomed[zoomed < constants.threshold] = 0
            levels = (zoomed.clip(0, 1) * 255).astype(np.uint8)
            blurred = np.floor(plain_line_blur(levels.astype(float), constants.radius, constants.sigma, turn) + 1 / 514)
            fall = (blurred / 255.0)[..., None]
            x = np.float32(image) / np.float32(255)
            grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
            x = constants.keep * x + (1 - constants.keep) * np.maximum(x, grey * 1.5 + 0.5)
            expected.append(np.clip(x + fall + np.rot90(fall, k=2), 0, 1) * 255)
        assert torch.equal(weather.snow(images, constants, layer, angle), chw(np.stack(expected)))


def plain_plasma(noise: np.ndarray, side: int, decay: float) -> np.ndarray:
    """Diamond-square on a torus, point by point."""
    field, queue, step, w = np.zeros((side, side)), iter(noise), side, 100.0
    at = lambda y, x: field[y % side, x % side]  # noqa: E731
    while step >= 2:
        h = step // 2
        grid = [(y, x) for y in range(0, side, step) for x in range(0, side, step)]
        for y, x in grid:
            mean = (at(y, x) + at(y + step, x) + at(y, x + step) + at(y + step, x + step)) / 4
            field[y + h, x + h] = mean + w * w * (2 * next(queue) - 1)
        for y, x in grid:
            mean = (at(y, x) + at(y, x + step) + at(y + h, x + h) + at(y - h, x + h)) / 4
            field[y, x + h] = mean + w * w * (2 * next(queue) - 1)
        for y, x in grid:
            mean = (at(y, x) + at(y + step, x) + at(y + h, x + h) + at(y + h, x - h)) / 4
            field[y + h, x] = mean + w * w * (2 * next(queue) - 1)
        step, w = h, w / decay
    return (field - field.min()) / (field.max() - field.min())


@pytest.mark.parametrize("benchmark, side", [("cifar10-c", 32), ("tiny-imagenet-c", 64)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_plasma_equals_the_plain_recursion(benchmark, side, severity):
    constants = constants_of(benchmark, "fog", severity)
    (noise,) = draws_of("fog", make_images(2, side, side), constants)
    fast = weather.plasma(noise, side, constants).numpy()
    for row, field in zip(noise.numpy(), fast, strict=True):
        np.testing.assert_allclose(field, plain_plasma(row, side, constants.decay), atol=1e-13)


@pytest.mark.parametrize("benchmark, side", [("cifar10-c", 32), ("tiny-imagenet-c", 64)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_displacement_equals_scipy(benchmark, side, severity):
    ndimage, filters = pytest.importorskip("scipy.ndimage"), pytest.importorskip("skimage.filters")
    images = make_images(8, side, side)
    constants = constants_of(benchmark, "elastic_transform", severity)
    jitter, dx, dy = draws_of("elastic_transform", images, constants)
    warped = digital.affine_warp(images.double().div(255).float(), jitter * constants.jitter)
    y, x, z = np.meshgrid(range(side), range(side), range(3), indexing="ij")
    expected = []
    for image, u, v in zip(hwc(warped), dx.numpy(), dy.numpy(), strict=True):
        shifts = [(filters.gaussian(f, constants.sigma, mode="reflect", truncate=3) * constants.alpha).astype(np.float32) for f in (u, v)]
        where = (y + shifts[1][..., None], x + shifts[0][..., None], z)
        expected.append(np.clip(ndimage.map_coordinates(image, where, order=1, mode="reflect"), 0, 1) * 255)
    assert torch.equal(digital.elastic_transform(images, constants, jitter, dx, dy), chw(np.stack(expected)))


@pytest.mark.parametrize("benchmark, side", [("cifar10-c", 32), ("tiny-imagenet-c", 64)])
def test_affine_step_equals_opencv_in_fixed_point(benchmark, side):
    """cv2.remap with fixed-point maps has the 1/32 px grid and border rule that warpAffine had before OpenCV 5."""
    cv2 = pytest.importorskip("cv2")
    images = make_images(16, side, side)
    jitter = draws_of("elastic_transform", images, CONSTANTS[benchmark]["elastic_transform"][0])[0] * 0.08 * side
    ours = digital.affine_warp(images.double().div(255).float(), jitter)
    centre, reach = side // 2, side // 3
    start = np.float32([[centre + reach] * 2, [centre + reach, centre - reach], [centre - reach] * 2])
    y, x = np.mgrid[:side, :side]
    for image, shift, warped in zip(hwc(images), jitter.numpy(), ours, strict=True):
        inverse = cv2.invertAffineTransform(cv2.getAffineTransform(start, start + shift.astype(np.float32)))
        grid = [(np.rint(a * x * 1024).astype(int) + np.rint((b * y + c) * 1024).astype(int) + 16) >> 5 for a, b, c in inverse]
        whole = np.stack([part >> 5 for part in grid], axis=-1).astype(np.int16)
        fraction = ((grid[1] & 31) * 32 + (grid[0] & 31)).astype(np.uint16)
        unit = np.float32(image / 255.0)
        expected = cv2.remap(unit, whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(warped.permute(1, 2, 0).numpy(), expected, atol=2e-7)
