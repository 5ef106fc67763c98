"""One rank's model, optimizer and step under DeepSpeed. Imports torch, so only train workers, tests and benchmarks use
it.

The loop (loop.py) gives it the encoded examples of one global step; every rank must call the same methods in the same
order. It knows nothing of queues, rounds, texts or Ray; torch.distributed must be initialised before.

What is minimised is the objective's (objectives/objective.py): a step's loss is, added up over its terms, (the term's
sum over all ranks) / (its count over all ranks, known before the first forward). DeepSpeed averages gradients over
ranks, so each rank's sum is multiplied by world_size / count, and DeepSpeed's own division by accumulation steps is
switched off (`scale_wrt_gas=False`); the accumulation boundary is set by us before every backward pass.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist

from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.probe import Probe, compare
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.memory.training_memory import zero_stage
from bohdi_ray.training.batches.batches import Batch, empty_batch
from bohdi_ray.training.batches.encoding import EncodedExample, Rejected
from bohdi_ray.training.batches.packing import choose_layout
from bohdi_ray.training.feed.encoder import encoder_of
from bohdi_ray.training.feed.steps import learning_rate
from bohdi_ray.training.objectives import OBJECTIVES
from bohdi_ray.training.objectives.logits import answer_losses, no_loss, row_sums, to_tensors
from bohdi_ray.training.objectives.objective import Objective
from bohdi_ray.training.results import RowLoss, StepResult
from bohdi_ray.training.weights.attention import FIELD as ATTENTION
from bohdi_ray.training.weights.versions import (
    files_of_version,
    full_state,
    load_tokenizer,
    measure_probe,
    probe_ids,
    stored_dtype,
    write_weights,
)
from bohdi_ray.training.zero.engine import start_engine
from bohdi_ray.training.zero.moments import release_moments

OPTIMIZER_TAG = "state"


class Learner:
    """Model and optimizer of this rank in the stage of `round`, from `weights_dir` on and, if given, `optimizer_dir`.

    `num_optimizer_steps`: taken in this stage so far.
    """

    def __init__(
        self,
        config: FusionConfig,
        weights_dir: str,
        base_dir: str,
        device: torch.device | str,
        optimizer_dir: str | None = None,
        num_optimizer_steps: int = 0,
        objective: Objective | None = None,
        round: int = 0,
    ):
        training = config.training.at(round)
        self._training = training
        self._stage = zero_stage(training)
        self._total_steps = config.schedule_steps(round)
        self._device = device
        self.num_optimizer_steps = num_optimizer_steps
        self.tokenizer = load_tokenizer(weights_dir)
        self._files = files_of_version(weights_dir)  # read now: a copy on this node may be gone when they are written
        self.encoder = encoder_of(config.at(round), self.tokenizer)
        self.objective = objective or OBJECTIVES[training.objective.kind]
        # Log-probabilities of rows under the objective's reference, by example; a row each.
        self.reference: dict[str, tuple[float, ...]] = {}
        self._engine = start_engine(training, weights_dir, base_dir, config.target.trust_remote_code)
        self._stored_dtype = stored_dtype(weights_dir)
        if optimizer_dir is not None:
            loaded, _ = self._engine.load_checkpoint(optimizer_dir, tag=OPTIMIZER_TAG)
            assert loaded is not None, f"no optimizer state in {optimizer_dir}"
        self._layout = choose_layout(training, self._row_loss_sums, self._on_all_ranks)

    @property
    def packing(self) -> bool:
        """Whether several rows share a line."""
        return self._layout.packing

    # Learning

    def step(self, usable: Sequence[EncodedExample], rejected: Sequence[Rejected] = ()) -> StepResult:
        """One optimizer step on this rank's share of a global step. If no token counts, nothing is updated."""
        objective = self.objective
        batches = self._layout.batches(usable)
        counts = objective.counts(usable)
        own = [
            sum(b.num_answer_tokens for b in batches),
            sum(b.num_tokens for b in batches),
            len(usable) + len(rejected),
            len(rejected),
            len(batches),
            *(counts[term] for term in objective.terms),
        ]
        every = self._gathered(own)
        num_answer_tokens, num_tokens, num_rows, num_rejected = (int(every[:, i].sum()) for i in range(4))
        num_micro_batches = int(every[:, 4].max())
        totals = {term: int(every[:, 5 + i].sum()) for i, term in enumerate(objective.terms)}
        rate = self._set_learning_rate()
        means, grad_norm = dict.fromkeys(objective.terms, 0.0), 0.0
        if any(totals.values()):
            sums = self._accumulate(batches, num_micro_batches, totals)
            means = {term: sums[term] / totals[term] if totals[term] else 0.0 for term in objective.terms}
            self._engine.step()
            self.num_optimizer_steps += 1
            grad_norm = float(self._engine.get_global_grad_norm() or 0.0)
        reasons = self._reasons(rejected) if num_rejected else {}
        numbers = (num_answer_tokens, num_tokens, num_rows, num_rejected)
        return StepResult(sum(means.values()), *numbers, grad_norm, rate, reasons, means)

    def _accumulate(self, batches: list[Batch], num_micro_batches: int, totals: dict[str, int]) -> dict[str, float]:
        """Forward and backward over all micro-batches; returns each term's sum over all ranks. `totals`: the divisors
        of the terms."""
        self._engine.train()
        world_size = dist.get_world_size()
        scales = {term: world_size / total if total else 0.0 for term, total in totals.items()}
        sums = torch.zeros(len(totals), dtype=torch.float64)
        for number in range(num_micro_batches):
            batch = batches[number] if number < len(batches) else empty_batch()
            self._engine.set_gradient_accumulation_boundary(number == num_micro_batches - 1)
            tensors = to_tensors(batch, self._device)
            if batch.examples:
                terms = self.objective.loss(self._engine, tensors, self._reference_of(batch)).terms
                loss = torch.stack([terms[term] * scale for term, scale in scales.items()]).sum()
                sums += torch.stack([terms[term].detach().double() for term in totals]).cpu()
            else:
                loss = no_loss(self._engine, tensors, self.objective.num_forwards)
            self._engine.backward(loss, scale_wrt_gas=False)
        return dict(zip(totals, self._summed(sums).tolist(), strict=True))

    def _reference_of(self, batch: Batch) -> torch.Tensor | None:
        """Reference scores of the batch's rows, shape [num_rows]."""
        if self.objective.reference is None:
            return None
        values = [value for example in batch.examples for value in self.reference[example.example_id]]
        return torch.tensor(values, dtype=torch.float32, device=self._device)

    def score_reference(self, examples: Sequence[EncodedExample]) -> None:
        """Scores this rank's examples under the current weights, for an objective whose reference is the model at the
        start of a round. Examples that are scored already, because the round resumed from a checkpoint within it, keep
        their scores."""
        new = {one.example_id: one for one in examples if one.example_id not in self.reference}
        for batch in self._batches_of_all(list(new.values())):
            sums = iter(self._row_loss_sums(batch))
            for example in batch.examples:
                self.reference[example.example_id] = tuple(-next(sums) for _ in example.rows)

    def all_references(self) -> dict[str, tuple[float, ...]]:
        """The reference scores of all ranks; every rank must call."""
        every: list[dict[str, tuple[float, ...]]] = [{}] * dist.get_world_size()
        dist.all_gather_object(every, self.reference)
        return {one: values for references in every for one, values in references.items()}

    def _set_learning_rate(self) -> float:
        training = self._training
        rate = learning_rate(self.num_optimizer_steps, training.learning_rate, training.schedule, self._total_steps)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def reset_optimizer(self) -> None:
        """Forgets AdamW's moments; they start at zero with the next step. Float32 master weights stay."""
        release_moments(self._engine.optimizer, self._engine.module.parameters())

    # Taking turns on the card

    def leave_card(self) -> None:
        """Moves weights and optimizer state to main memory; the CUDA context and the module's buffers stay on the GPU.

        Only `enter_card` may be called afterwards. The memory is not pinned, because pinned memory would stay
        allocated, up to twice as much.
        """
        self._engine.offload_states(pin_memory=False)

    def enter_card(self) -> None:
        """Moves weights and optimizer state back onto the GPU."""
        self._engine.reload_states()

    # Measuring

    def row_losses(self, examples: Sequence[EncodedExample]) -> list[RowLoss]:
        """This rank's examples evaluated by the objective's selection metric, under the current weights."""
        found = []
        self._engine.eval()
        for batch in self._batches_of_all(examples):
            tensors = to_tensors(batch, self._device)
            with torch.no_grad():
                if not batch.examples:
                    no_loss(self._engine, tensors, self.objective.num_forwards)
                    continue
                measured = self.objective.loss(self._engine, tensors, self._reference_of(batch)).measured.tolist()
            for example, value in zip(batch.examples, measured, strict=True):
                found.append(RowLoss(example.example_id, value, self.objective.weight(example)))
        self._engine.train()
        return found

    def _batches_of_all(self, examples: Sequence[EncodedExample]) -> Iterator[Batch]:
        """This rank's micro-batches, followed by empty ones while another rank has more, because all ranks run the
        model together."""
        batches = self._layout.batches(examples)
        for number in range(int(self._gathered([len(batches)]).max())):
            yield batches[number] if number < len(batches) else empty_batch()

    def probe(self, weights_version: int) -> Probe:
        """Log-probabilities of the probe sequences under the current weights; every rank computes all of them."""
        self._engine.eval()
        probe = measure_probe(self._engine, probe_ids(self.encoder), weights_version, self._device)
        self._engine.train()
        return probe

    def check_start(self, published: Probe, tolerance: float) -> None:
        """Checks that the model about to be trained computes the same as the published one; every rank must call.

        Raises ConfigError, because a difference can only come from how they are computed, above all from attention.
        """
        report = compare(self.probe(published.weights_version).logprobs, published, None, tolerance)
        if report.failure is not None:
            name = getattr(self._engine.module.config, "_attn_implementation", None)
            rule = f"version {published.weights_version} computes something else in training than at its publication "
            rule += f"(attention {name}, ZeRO-{self._stage}, {self._training.dtype}): log-probabilities differ by "
            rule += f"{report.mean_abs_difference:.4f} nats per token, more than weights.tolerance {tolerance:g}"
            remedy = "Leave training.attn_implementation out, or set it to eager."
            raise ConfigError(ATTENTION, name, rule, remedy)

    # Saving

    def save_optimizer(self, folder: str) -> None:
        """Saves everything that training needs to continue exactly, one file per rank."""
        # The checksum of every tensor costs more than writing it; nothing reads these files but the loop itself.
        torch.serialization.set_crc32_options(False)
        self._engine.save_checkpoint(folder, tag=OPTIMIZER_TAG)

    def save_weights(self, folder: str, rank: int) -> None:
        """Saves the weights in engine layout, written by rank 0; every rank must call."""
        state = full_state(self._engine, self._stage)
        if rank == 0:
            assert state is not None
            write_weights(self._engine.module, self._files, state, folder, self._stored_dtype)

    def release(self) -> None:
        """Gives back the memory of model and optimizer; nothing may be called any more. Every rank must call."""
        self._engine.destroy()
        del self._engine, self._layout
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # Parts

    def _gathered(self, own: list[int]) -> torch.Tensor:
        """The numbers of all ranks, shape [world_size, len(own)]."""
        mine = torch.tensor(own, dtype=torch.int64, device=self._device)
        every = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(every, mine)
        return torch.stack(every).cpu()

    def _reasons(self, rejected: Sequence[Rejected]) -> dict[str, int]:
        """Rejected rows of all ranks by reason; every rank must call."""
        every: list[Counter[str]] = [Counter()] * dist.get_world_size()
        dist.all_gather_object(every, Counter(row.reason for row in rejected))
        return dict(sum(every, Counter()))

    def _summed(self, value: torch.Tensor) -> torch.Tensor:
        value = value.to(self._device)
        dist.all_reduce(value)
        return value.cpu()

    @torch.no_grad()
    def _row_loss_sums(self, batch: Batch) -> list[float]:
        """Losses of a batch's rows, summed over their answer tokens, under the current weights, in evaluation mode."""
        self._engine.eval()
        tensors = to_tensors(batch, self._device)
        if batch.rows:
            sums = row_sums(answer_losses(self._engine, tensors), tensors).tolist()
        else:
            no_loss(self._engine, tensors, 1)
            sums = []
        self._engine.train()
        return sums

    def _on_all_ranks(self, answer: bool) -> bool:
        """Whether the answer is yes on all ranks."""
        return bool(self._gathered([int(answer)]).min())
