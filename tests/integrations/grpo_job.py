"""A GRPO run of several processes: each has three rows of groups of two, so that a group lies on
two processes.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    from tiny_trl import CONFIG, arguments, dataset, model, vowels
    from trl import GRPOConfig, GRPOTrainer

    from reward_router.integrations.trl import RoutedReward, RouterCallback

    class Watched(RoutedReward):
        """Keeps which arm judged each of this process's rows."""

        seen: list[list[str]] = []

        def judge(self, prompts, completions, columns):
            told = columns["log_extra"]

            def keep(name, values):
                if name == "router_arm":
                    self.seen.append([prompts, list(values)])
                told(name, values)

            return super().judge(prompts, completions, columns | {"log_extra": keep})

    out = Path(sys.argv[1])
    lm, tokenizer = model()
    args = arguments(
        GRPOConfig,
        out,
        num_generations=2,
        max_completion_length=8,
        per_device_train_batch_size=3,
        max_steps=3,
    )
    reward = Watched(CONFIG, 2, gold=vowels, payoff="probe")
    trainer = GRPOTrainer(
        lm,
        reward,
        args=args,
        train_dataset=dataset(),
        processing_class=tokenizer,
        callbacks=[RouterCallback(reward)],
    )
    trainer.train()
    state = reward.session.dispatcher.state_dict()
    told = {"seen": reward.seen, "state": {name: v.tolist() for name, v in state.items()}}
    (out / f"rank-{args.process_index}.json").write_text(json.dumps(told))
    reward.session.dispatcher.close()


if __name__ == "__main__":
    main()
