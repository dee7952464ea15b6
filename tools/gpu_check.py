"""Check DSANet on a GPU in less than eight minutes, without a network, and write the results as JSON.

Each part is independent: if one fails, its error is recorded, and the others go on. docs/gpu.md describes the parts.
Exit status: 0 all parts passed; 1 a part failed; 2 wrong arguments, or no GPU.
"""

import argparse
import functools
import gc
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsanet.config.loading import load_config
from dsanet.data_tools.ordered_actions import draw_video, write_video
from dsanet.engine.preparation import place_model, set_determinism
from dsanet.engine.train_step import Stepper
from dsanet.models.modules_maker.DSA import DSA
from dsanet.models.summary import find_input_shape, summarize_model
from dsanet.utils.json_lines import read_json_lines

ROOT = Path(__file__).parents[1]
DEMO = 'demo/dsanet_ordered_actions'
DEFAULTS = {'train_cfg.max_epochs': 1, 'runtime.log_interval': 1}
DTYPES = {None: torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
TIME_LIMIT_S = 8 * 60
PROGRAM_LIMIT_S = 200  # so that a hanging program does not use up the time of the other parts


class Skipped(Exception):
    """A part that cannot run on this machine, with the reason."""


@dataclass(frozen=True)
class Check:
    """What all parts need.

    Args:
        device: where to compute.
        quick: tiny sizes, to test this script.
        folder: for runs and videos; has a small dataset in ``data``.
        deadline: ``time.monotonic()`` at which the whole check must end.
    """

    device: torch.device
    quick: bool
    folder: Path
    deadline: float

    @property
    def is_cuda(self) -> bool:
        return self.device.type == 'cuda'

    def run(self, command: Sequence[object], folder: Path | None = None, **variables: str) -> str:
        """Run a program to its end, in a folder (default: that of the check), and return its output.

        Raises:
            RuntimeError: it fails, or the time is up; the text has the end of its output.
        """
        done = subprocess.run(
            [*map(str, command)],
            cwd=folder or self.folder,
            env=self.environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=max(min(self.deadline - time.monotonic(), PROGRAM_LIMIT_S), 1),
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f'exit status {done.returncode}: {done.stdout[-1500:]}')
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return the environment of programs; without a GPU if the check runs on the CPU."""
        return dict(os.environ) if self.is_cuda else {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}

    def train_command(self, name: str, options: Sequence[str], settings: Mapping[str, object]) -> list[str]:
        """Return the command of a training run of the demo in one launched process, which uses NCCL on a GPU."""
        settings = {**DEFAULTS, **settings}
        overrides = [f'{key}={value}' for key, value in settings.items()]
        command = [sys.executable, '-m', 'dsanet', 'train', DEMO, '--gpus', '1', '--work-dir', name, *options]
        return [*command, '--cfg-options', 'data_root=data', *overrides]

    def train(
        self, name: str, options: Sequence[str] = (), settings: Mapping[str, object] = DEFAULTS
    ) -> dict[str, Any]:
        """Train the demo, and return its last losses and speed.

        Raises:
            RuntimeError: the run fails, or its loss is not finite.
        """
        started = time.monotonic()
        self.run(self.train_command(name, options, settings))
        lines = read_json_lines(self.folder / name / 'scalars.jsonl')
        losses = [line['train/loss'] for line in lines if 'train/loss' in line]
        if not np.isfinite(losses).all() or not losses:
            raise RuntimeError(f'the losses are not finite: {losses}')
        times = [line['train/time'] for line in lines if 'train/time' in line]
        return {
            'first_loss': losses[0],
            'last_loss': losses[-1],
            'ms_per_step': round(1000 * statistics.median(times), 2),
            'seconds': round(time.monotonic() - started, 1),
        }

    def weights(self, name: str, epoch: int) -> dict[str, Tensor]:
        """Return the weights of a run after an epoch."""
        content = torch.load(self.folder / name / f'epoch_{epoch}.pth', map_location='cpu', weights_only=True)
        return content['state_dict']


def check_equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Raise an AssertionError that names the first weight whose bits differ."""
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, f'{len(different)} of {len(a)} weights differ, such as {different[0]}'


# -- correctness -------------------------------------------------------------------------------------------------------


def run_gpu_tests(check: Check) -> dict[str, Any]:
    """Run every test with the marker ``needs_gpu``."""
    if not check.is_cuda:
        raise Skipped('needs a GPU')
    command = [sys.executable, '-m', 'pytest', '-m', 'needs_gpu', '-p', 'no:cacheprovider']
    text = check.run(command, ROOT, FAIL_WITHOUT_GPU='1')
    return {'summary': text.strip().splitlines()[-1]}


def train_in(amp: str | None, check: Check) -> dict[str, Any]:
    """Train one epoch of the demo in one launched process."""
    if amp == 'fp16' and not check.is_cuda:
        raise Skipped('float16 takes minutes on a CPU')
    return check.train(f'epoch_{amp or "fp32"}', ['--amp', amp] if amp else [])


def repeat_deterministic(check: Check) -> dict[str, Any]:
    """Train twice with ``--deterministic``, and compare the bits of the weights."""
    for name in ('once', 'twice'):
        check.train(name, ['--deterministic'])
    check_equal(check.weights('once', 1), check.weights('twice', 1))
    return {'equal_bits': True}


def kill_and_resume(check: Check) -> dict[str, Any]:
    """Kill a run within an epoch, resume it, and compare its weights with those of an uninterrupted run."""
    settings = {'train_cfg.max_epochs': 2, 'runtime.checkpoint_interval': 2}
    check.train('complete', ['--deterministic'], settings)
    command = check.train_command('killed', ['--deterministic'], settings)
    with open(check.folder / 'killed.log', 'wb') as log:
        run = subprocess.Popen(
            command,
            cwd=check.folder,
            env=check.environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while not (saved := sorted((check.folder / 'killed').glob('epoch_*_iter_*.pth'))):
            assert run.poll() is None, f'the run ended before it could be killed; see {log.name}'
            assert time.monotonic() < check.deadline, 'the time is up'
            time.sleep(0.01)
    finally:
        kill_session(run)
    check.train('killed', ['--deterministic', '--resume'], settings)
    check_equal(check.weights('complete', 2), check.weights('killed', 2))
    return {'killed_after': saved[0].name, 'equal_bits': True}


def kill_session(run: subprocess.Popen[bytes]) -> None:
    """Kill a program that was started in a session of its own, with its children, and wait until they have ended."""
    # The launcher starts each process in a group of its own, so the groups of the session are looked up.
    listed = subprocess.run(['ps', '-A', '-o', 'sid=,pid='], stdout=subprocess.PIPE, text=True, check=True).stdout
    for sid, pid in re.findall(r'(\d+)\s+(\d+)', listed):
        if int(sid) == run.pid:
            os.kill(int(pid), signal.SIGKILL)
    run.wait()


def train_compiled(check: Check) -> dict[str, Any]:
    """Train one epoch with ``runtime.compile``, and compare the first loss with that of the eager model."""
    eager, compiled = check.train('eager'), check.train('compiled', settings={'runtime.compile': True})
    difference = abs(eager['first_loss'] - compiled['first_loss'])
    assert difference < 0.02, f'the first losses differ by {difference}'
    return {'first_loss_difference': difference, 'eager': eager, 'compiled': compiled}


def decode_on_gpu(check: Check) -> dict[str, Any]:
    """Decode a video by torchcodec on the GPU, and compare frames and speed with the CPU."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise Skipped(f'torchcodec cannot be imported: {str(error).splitlines()[0]}') from error
    file = check.folder / 'decode.mp4'
    write_video(file, draw_video(0, np.random.default_rng(0), 256))
    frames, milliseconds = [], []
    for device in ('cpu', str(check.device)):
        decode = functools.partial(decode_frames, VideoDecoder, file, device)
        decode()
        started = time.perf_counter()
        frames.append(decode().float().cpu())
        milliseconds.append(round(1000 * (time.perf_counter() - started), 2))
    difference = float((frames[0] - frames[1]).abs().mean())
    assert difference < 3, f'frames of CPU and GPU differ by {difference} gray levels on average'
    return {
        'frames': len(frames[0]),
        'mean_difference': difference,
        'cpu_ms': milliseconds[0],
        'gpu_ms': milliseconds[1],
    }


def decode_frames(decoder: Any, file: Path, device: str) -> Tensor:
    """Return all frames (T, C, H, W) uint8 of a video."""
    opened = decoder(str(file), device=device)
    frames: Tensor = opened.get_frames_at(list(range(len(opened)))).data
    if frames.is_cuda:
        torch.cuda.synchronize()
    return frames


# -- speed -------------------------------------------------------------------------------------------------------------


def measure(function: Callable[[], object], check: Check) -> dict[str, float]:
    """Return the median and minimum milliseconds of a function, and its peak memory in MB on a GPU."""
    repeats = 2 if check.quick else 20
    for _ in range(1 if check.quick else 5):
        function()
    if check.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        if check.is_cuda:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started))
    result = {'median_ms': round(statistics.median(times), 3), 'min_ms': round(min(times), 3)}
    if check.is_cuda:
        result['peak_mb'] = round(torch.cuda.max_memory_allocated() / 1e6)
    return result


@functools.cache
def matmul_tflops(dtype: torch.dtype, check: Check) -> float:
    """Return the card's rate for one large product of matrices, in TFLOP/s; float32 as TF32, as in convolutions."""
    size = 256 if check.quick else 8192
    a, b = (torch.randn(size, size, device=check.device, dtype=dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        milliseconds = measure(lambda: a @ b, check)['min_ms']
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * size**3 / milliseconds / 1e9


def model_speed(amp: str | None, channels_last: bool, check: Check) -> dict[str, Any]:
    """Measure forward pass and training step of DSANet-R50, 4 x 8 x 224, batches of 8 videos."""
    batch_size = 2 if check.quick else 8
    name = DEMO if check.quick else 'kinetics/r50_e100_s1_8'
    config = load_config(name, ['model.backbone.pretrained=None', *([] if amp is None else [f'runtime.amp={amp}'])])
    config['train_dataloader']['batch_size'] = batch_size
    config['train_cfg'] = {**config['train_cfg'], 'base_batch_size': batch_size}
    shape = find_input_shape(config)
    gflops = 2 * summarize_model(config['model'], shape)['gmacs'] * batch_size
    set_determinism(False)  # as in training: cuDNN chooses the fastest algorithms
    stepper = Stepper(config, check.device)
    place_model(stepper.model, check.device)
    frames = torch.randint(256, (batch_size, 1, *shape[:2], *shape[2:], 3), dtype=torch.uint8, device=check.device)
    inputs = frames.permute(0, 1, 2, 6, 3, 4, 5)  # (N, V, U, C, T, H, W)
    if not channels_last:
        inputs = inputs.contiguous()
        for parameter in stepper.model.parameters():
            parameter.data = parameter.data.contiguous()
    labels = torch.zeros(batch_size, dtype=torch.int64, device=check.device)
    stepper.set_learning_rate(0)

    @torch.no_grad()
    def forward() -> None:
        with torch.autocast(check.device.type, DTYPES[amp], enabled=amp is not None):
            stepper.model(inputs)

    def step() -> None:
        stepper.update(stepper.backward([{'inputs': inputs, 'label': labels}], 0))

    peak = matmul_tflops(DTYPES[amp], check)
    result: dict[str, Any] = {'config': name, 'shape': [batch_size, 1, *shape], 'matmul_tflops': round(peak, 1)}
    for part, function, passes in (('forward', forward, 1), ('step', step, 3)):  # backward: twice the forward
        stepper.model.train(part == 'step')
        numbers = measure(function, check)
        tflops = passes * gflops / numbers['median_ms']
        more = {'videos_per_s': round(1000 * batch_size / numbers['median_ms'], 1), 'tflops': round(tflops, 2)}
        result[part] = {**numbers, **more, 'share_of_peak': round(tflops / peak, 3)}
    return result


def dsa_speed(dtype: torch.dtype, check: Check) -> dict[str, Any]:
    """Compare DSA's product with a banded matrix with a grouped convolution, forward and backward."""
    videos, channels, snippets, taps, side = (1, 4, 4, 3, 4) if check.quick else (8, 256, 4, 3, 14)
    dsa = DSA(channels, snippets, channel_ratio=1, kernel_size=taps).to(check.device)
    size = (videos, snippets, channels, 8, side, side)
    x = torch.randn(size, device=check.device, dtype=dtype, requires_grad=True)
    kernel = torch.randn(videos, channels, taps, device=check.device, dtype=dtype).softmax(-1).requires_grad_()
    grad = torch.randn(size, device=check.device, dtype=dtype)

    def grouped() -> Tensor:
        groups = videos * channels
        rows = x.transpose(1, 2).flatten(0, 1)  # (N*C, U, T, H, W)
        flat = rows.flatten(2)[None]  # (1, N*C, U, T*H*W)
        mixed = nn.functional.conv2d(flat, kernel.view(groups, 1, taps, 1), padding=(taps // 2, 0), groups=groups)
        return mixed.view(videos, channels, snippets, *size[3:]).transpose(1, 2)  # (N, U, C, T, H, W)

    ways = {'banded': lambda: dsa.aggregate(x, kernel), 'grouped': grouped}
    outputs = [way().detach().float() for way in ways.values()]
    difference = float((outputs[0] - outputs[1]).abs().max() / outputs[1].abs().max())
    assert difference < (2e-2 if dtype != torch.float32 else 5e-3), f'the outputs differ by {difference}'
    result: dict[str, Any] = {'relative_difference': difference}
    for name, way in ways.items():
        result[name] = measure(lambda way=way: way().backward(grad), check)  # type: ignore[misc]
    result['grouped_over_banded'] = round(result['grouped']['median_ms'] / result['banded']['median_ms'], 2)
    return result


# -- the whole ---------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Check], dict[str, Any]]] = {
    **{f'model_{amp or "fp32"}': functools.partial(model_speed, amp, True) for amp in DTYPES},
    'model_bf16_channels_first': functools.partial(model_speed, 'bf16', False),
    'dsa_fp32': functools.partial(dsa_speed, torch.float32),
    'dsa_bf16': functools.partial(dsa_speed, torch.bfloat16),
    'decoding': decode_on_gpu,
    **{f'epoch_{amp or "fp32"}': functools.partial(train_in, amp) for amp in DTYPES},
    'deterministic': repeat_deterministic,
    'resume': kill_and_resume,
    'compile': train_compiled,
    'tests': run_gpu_tests,
}


def run_part(part: Callable[[Check], dict[str, Any]], check: Check) -> dict[str, Any]:
    """Run a part, and return its status, its seconds, and its result or its error."""
    started = time.monotonic()
    outcome: dict[str, Any]
    try:
        if started > check.deadline:
            raise TimeoutError('not run: the time is up')
        outcome = {'status': 'passed', 'result': part(check)}
    except Skipped as reason:
        outcome = {'status': 'skipped', 'reason': str(reason)}
    except Exception as error:
        outcome = {'status': 'failed', 'error': f'{type(error).__name__}: {error}', 'traceback': traceback.format_exc()}
    finally:
        gc.collect()
        if check.is_cuda:
            torch.cuda.empty_cache()
    return {**outcome, 'seconds': round(time.monotonic() - started, 1)}


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the names and versions that the numbers depend on."""
    facts: dict[str, Any] = {'device': platform.processor() or platform.machine(), 'torch': torch.__version__}
    if device.type == 'cuda':
        card = torch.cuda.get_device_properties(device)
        memory = round(card.total_memory / 1e9, 1)
        versions = {'cuda': torch.version.cuda, 'cudnn': torch.backends.cudnn.version()}
        facts |= {'device': card.name, 'memory_gb': memory, **versions}
    return {**facts, 'python': platform.python_version(), 'tf32': torch.backends.cudnn.allow_tf32}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts, print a line for each, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('gpu_check.json'), help='results (default: gpu_check.json)')
    parser.add_argument('--device', default='cuda', choices=('cuda', 'cpu'), help='cpu only tests this script')
    parser.add_argument('--quick', action='store_true', help='tiny sizes, to test this script')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS), metavar='PART', help=', '.join(PARTS))
    args = parser.parse_args(argv)
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.stderr.write('error: no CUDA device found; --device cpu --quick tests the script itself\n')
        return 2
    device = torch.device(args.device, 0)
    results: dict[str, Any] = {'machine': describe_machine(device), 'quick': args.quick, 'parts': {}}
    folder = Path(tempfile.mkdtemp(prefix='dsanet-gpu-'))
    try:
        check = Check(device, args.quick, folder, time.monotonic() + TIME_LIMIT_S)
        size = ['--num-videos', '48'] if args.quick else ['--num-videos', '320']
        check.run([sys.executable, '-m', 'dsanet', 'make-demo-videos', 'data', *size])
        for name in args.parts:
            outcome = results['parts'][name] = run_part(PARTS[name], check)
            text = outcome.get('error') or outcome.get('reason') or json.dumps(outcome['result'])
            print(f'{name:<26}{outcome["status"]:<9}{outcome["seconds"]:6.1f} s  {text.splitlines()[0]}', flush=True)
            args.out.write_text(
                json.dumps(results, indent=2) + '\n'
            )  # complete up to here, if the machine is taken away
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    failed = [name for name, outcome in results['parts'].items() if outcome['status'] == 'failed']
    print(f'Results written to {args.out}' + (f'; failed: {", ".join(failed)}' if failed else ''))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
