"""The fifteen corruptions one image at a time, with the libraries that the benchmarks were made with: what rtalib is measured against.

Hendrycks and Dietterich, ICLR 2019, describe the algorithms; CIFAR-10-C's constants come from `rtalib.corruptions.constants`. Each function
takes an image (H,W,3) uint8 and its constants and returns intensities (H,W,3) to be cut to bytes, with NumPy's global random numbers. They
need NumPy, SciPy, OpenCV, scikit-image and Pillow; motion blur and snow also Wand with ImageMagick; frost the photographs of the package
`imagecorruptions`. Work that the published scripts repeat for each image (kernels, files read) is repeated here.
"""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import color, filters, util

from rtalib.corruptions.constants import CONSTANTS, Defocus, Elastic, Fog, Frost, Glass, Motion, Pixelate, Snow, Zoom

FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


def gaussian_noise(image: np.ndarray, std: float) -> np.ndarray:
    x = image / 255.0
    return (x + np.random.normal(size=x.shape, scale=std)).clip(0, 1) * 255


def shot_noise(image: np.ndarray, photons: int) -> np.ndarray:
    return (np.random.poisson(image / 255.0 * photons) / photons).clip(0, 1) * 255


def impulse_noise(image: np.ndarray, amount: float) -> np.ndarray:
    rng = np.random.default_rng(np.random.randint(2**31))  # random_noise would seed itself from the system
    return util.random_noise(image / 255.0, mode="s&p", amount=amount, rng=rng).clip(0, 1) * 255


def defocus_blur(image: np.ndarray, constants: Defocus) -> np.ndarray:
    half = 8 if constants.radius <= 8 else int(constants.radius)
    window = 3 if constants.radius <= 8 else 5
    grid = np.arange(-half, half + 1)
    disk = np.float32(grid[:, None] ** 2 + grid**2 <= constants.radius**2)
    kernel = cv2.GaussianBlur(disk / disk.sum(), ksize=(window, window), sigmaX=constants.alias)
    return np.dstack([cv2.filter2D(plane, -1, kernel) for plane in np.moveaxis(image / 255.0, 2, 0)]).clip(0, 1) * 255


def glass_blur(image: np.ndarray, constants: Glass) -> np.ndarray:
    sigma, reach, passes = constants
    pixels = np.uint8(filters.gaussian(image / 255.0, sigma=sigma, channel_axis=-1) * 255)
    height, width = pixels.shape[:2]
    for _ in range(passes):
        for y in range(height - reach, reach, -1):
            for x in range(width - reach, reach, -1):
                dx, dy = np.random.randint(-reach, reach, size=(2,))
                # the published swap of two rows of the array: only the first takes a new value
                pixels[y, x], pixels[y + dy, x + dx] = pixels[y + dy, x + dx], pixels[y, x]
    return filters.gaussian(pixels / 255.0, sigma=sigma, channel_axis=-1).clip(0, 1) * 255


def magick_motion(image: np.ndarray, radius: float, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's motion blur of an image (H,W) or (H,W,3) uint8, by way of PNG bytes."""
    from wand.image import Image as WandImage

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    with WandImage(blob=file.getvalue()) as drawn:
        drawn.motion_blur(radius=radius, sigma=sigma, angle=angle)
        blurred = np.frombuffer(drawn.make_blob("png"), dtype=np.uint8)
    decoded = cv2.imdecode(blurred, cv2.IMREAD_UNCHANGED)
    return decoded[..., ::-1] if decoded.ndim == 3 else decoded


def motion_blur(image: np.ndarray, constants: Motion) -> np.ndarray:
    return magick_motion(image, constants.radius, constants.sigma, np.random.uniform(-45, 45))


def _clipped_zoom(x: np.ndarray, factor: float) -> np.ndarray:
    """The centre of x, enlarged by `factor` to the size of x."""
    side = len(x)
    crop = int(np.ceil(side / factor))
    top = (side - crop) // 2
    big = ndimage.zoom(x[top : top + crop, top : top + crop], (factor, factor, 1), order=1)
    trim = (len(big) - side) // 2
    return big[trim : trim + side, trim : trim + side]


def zoom_blur(image: np.ndarray, constants: Zoom) -> np.ndarray:
    x = (image / 255.0).astype(np.float32)
    total = np.zeros_like(x)
    for factor in constants.factors:
        total += _clipped_zoom(x, factor)
    return ((x + total) / (len(constants.factors) + 1)).clip(0, 1) * 255


def snow(image: np.ndarray, constants: Snow) -> np.ndarray:
    x = np.float32(image) / np.float32(255)
    flakes = np.random.normal(size=x.shape[:2], loc=constants.mean, scale=constants.std)
    flakes = _clipped_zoom(flakes[..., None], constants.zoom)[..., 0]
    flakes[flakes < constants.threshold] = 0
    levels = np.uint8(flakes.clip(0, 1) * 255)
    fall = magick_motion(levels, constants.radius, constants.sigma, np.random.uniform(-135, -45))[..., None] / 255.0
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = constants.keep * x + (1 - constants.keep) * np.maximum(x, grey * 1.5 + 0.5)
    return (x + fall + np.rot90(fall, k=2)).clip(0, 1) * 255


def frost_folder() -> Path:
    """The folder of the photographs inside the installed package `imagecorruptions`."""
    import imagecorruptions

    return Path(imagecorruptions.__file__).parent / "frost"


def frost(image: np.ndarray, constants: Frost) -> np.ndarray:
    path = frost_folder() / FROST_FILES[np.random.randint(5)]
    ice = cv2.resize(cv2.imread(str(path)), (0, 0), fx=constants.scale, fy=constants.scale)
    side = len(image)
    top, left = np.random.randint(0, ice.shape[0] - side), np.random.randint(0, ice.shape[1] - side)
    return (constants.image * image + constants.frost * ice[top : top + side, left : left + side, ::-1]).clip(0, 255)


def _plasma(side: int, decay: float) -> np.ndarray:
    """Diamond-square height map in 0..1 on a torus of `side`, a power of two."""
    field, step, wobble = np.zeros((side, side)), side, 100.0

    def displaced(total: np.ndarray) -> np.ndarray:
        return total / 4 + wobble * np.random.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corner = field[::step, ::step]
        total = corner + np.roll(corner, -1, axis=0)
        field[half::step, half::step] = displaced(total + np.roll(total, -1, axis=1))
        centre = field[half::step, half::step]
        field[::step, half::step] = displaced(centre + np.roll(centre, 1, axis=0) + corner + np.roll(corner, -1, axis=1))
        field[half::step, ::step] = displaced(centre + np.roll(centre, 1, axis=1) + corner + np.roll(corner, -1, axis=0))
        step, wobble = half, wobble / decay
    field -= field.min()
    return field / field.max()


def fog(image: np.ndarray, constants: Fog) -> np.ndarray:
    x, side = image / 255.0, len(image)
    brightest = x.max()
    x = x + constants.weight * _plasma(side, constants.decay)[:side, :side, None]
    return (x * brightest / (brightest + constants.weight)).clip(0, 1) * 255


def brightness(image: np.ndarray, offset: float) -> np.ndarray:
    hsv = color.rgb2hsv(image / 255.0)
    hsv[..., 2] = (hsv[..., 2] + offset).clip(0, 1)
    return color.hsv2rgb(hsv).clip(0, 1) * 255


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    x = image / 255.0
    mean = x.mean(axis=(0, 1), keepdims=True)
    return ((x - mean) * factor + mean).clip(0, 1) * 255


def elastic_transform(image: np.ndarray, constants: Elastic) -> np.ndarray:
    x = np.float32(image) / np.float32(255)
    side = len(x)
    centre, reach = side // 2, side // 3
    start = np.float32([[centre + reach] * 2, [centre + reach, centre - reach], [centre - reach] * 2])
    end = start + np.random.uniform(-constants.jitter, constants.jitter, size=start.shape).astype(np.float32)
    x = cv2.warpAffine(x, cv2.getAffineTransform(start, end), (side, side), borderMode=cv2.BORDER_REFLECT_101)
    dx, dy = (
        (filters.gaussian(np.random.uniform(-1, 1, size=(side, side)), constants.sigma, mode="reflect", truncate=3) * constants.alpha)
        .astype(np.float32)[..., None]
        for _ in range(2)
    )  # fmt: skip
    columns, rows, channels = np.meshgrid(np.arange(side), np.arange(side), np.arange(3))
    where = (np.reshape(rows + dy, (-1, 1)), np.reshape(columns + dx, (-1, 1)), np.reshape(channels, (-1, 1)))
    return ndimage.map_coordinates(x, where, order=1, mode="reflect").reshape(x.shape).clip(0, 1) * 255


def pixelate(image: np.ndarray, constants: Pixelate) -> np.ndarray:
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * constants.scale), int(height * constants.scale)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def original(image: np.ndarray, name: str, severity: int, benchmark: str = "cifar10-c") -> np.ndarray:
    """uint8 (H,W,3): one image through one corruption, square images only, as in the published scripts."""
    return np.uint8(globals()[name](image, CONSTANTS[benchmark][name][severity - 1]))
