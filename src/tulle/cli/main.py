"""The `tulle` command: which commands there are, and failures turned into exit codes.

Command modules are imported when their command runs, so `tulle --help` costs almost nothing; the one-line
helps stand here for the same reason, and a test holds them against the commands.

Exit codes: 0 done; 1 the thing asked for failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from pathlib import Path

import click

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module, one-line help), in the order a newcomer meets them
    "init": ("product", "Make a new mesh in a folder."),
    "new": ("product", "Make a new product from a template, or an API from an OpenAPI document."),
    "product": ("template", "Keep a product's files up to date with what they were made from."),
    "export": ("standards", "Write a product in a standard's words: ODCS contracts, ODPS."),
    "import": ("standards", "Make a product of an ODCS contract or an ODPS document."),
    "schema": ("standards", "Print the JSON Schema of product.yaml, for editors."),
    "validate": ("product", "Check every product's documents, code, checks and services."),
    "plan": ("plan", "Show what `apply` would do, in sentences."),
    "apply": ("plan", "Carry out the plan."),
    "plans": ("plan", "Show the plans that were carried out, or one with its steps."),
    "test": ("model_test", "Test models: given rows in, expected rows out."),
    "run": ("run", "Build products: ingest, transform, check, publish."),
    "runs": ("run", "Show earlier runs, or one with its checks and failing rows."),
    "schedule": ("schedule", "When products run by themselves: what comes next, what fired."),
    "backfill": ("backfill", "Make a product anew for a span of time, window by window."),
    "backfills": ("backfill", "Show backfills, or one with its windows; cancel or resume it."),
    "alerts": ("alerts", "Where failures are told: channels, incidents, a test."),
    "env": ("environment", "Environments: branches of all products, and which release is where."),
    "preview": ("environment", "Previews: short-lived branches, to look at what a change would make."),
    "release": ("release", "Make an immutable, signed version of a product."),
    "releases": ("release", "List releases, or check one."),
    "promote": ("release", "Bring a release into an environment: approved, run, checked."),
    "promotions": ("release", "List promotions and rollbacks, and who approved them."),
    "approve": ("release", "Approve a promotion, or refuse it."),
    "withdraw": ("release", "Take back a promotion while it waits."),
    "rollback": ("release", "Put code and data back to where a release left them."),
    "ci": ("ci", "Make the workflow that checks changes and releases what is merged."),
    "manifest": ("release", "Show what a run was specified by and what it made."),
    "deprecate": ("release", "Say that a product ends, and tell its consumers."),
    "retire": ("release", "Take a product whose day has come out of the mesh."),
    "check": ("checks", "Judge what is published, without making anything."),
    "checks": ("checks", "List checks with their last result; what they found before."),
    "profile": ("checks", "Show what the columns of a data set hold."),
    "drift": ("destroy", "Show what differs from what was applied."),
    "grants": ("grants", "Show the roles of a product in the lake, and who has them."),
    "destroy": ("destroy", "Destroy a product; its data stays unless asked."),
    "up": ("mesh", "Start the mesh: control plane, gateway, services."),
    "down": ("mesh", "Stop everything the mesh started."),
    "status": ("mesh", "Show every process with its state and URL."),
    "logs": ("mesh", "Show what a process wrote."),
    "demo": ("demo", "Build and start the example mesh."),
    "service": ("service", "Package, deploy, test and call services."),
    "model": ("model", "Train models, show and compare them, put one behind a service."),
    "features": ("features", "What services look up: where from, how old."),
    "api": ("api", "Managed APIs: versions side by side, their lives, what answers them."),
    "app": ("app", "Register applications, ask what they may call, and decide about it."),
    "insight": ("insight", "What services are asked, and how they fare."),
    "gateway": ("gateway", "The gateway: how it fares, its versions, rollback and back again."),
    "trust": ("trust", "Certificates of the mesh's parts, and which service may call which."),
    "policy": ("policy", "What the gateway can do with requests: the kinds of policies."),
    "connection": ("connection", "The databases, stores and HTTP APIs that sources read."),
    "capability": ("capability", "The component types a product may use."),
    "repo": ("repo", "Repositories of the lake: objects, commits, imports, hooks, retention."),
    "user": ("user", "Who may work with the lake: users, access keys, policies."),
    "audit": ("user", "What was changed or denied, by whom."),
    "branch": ("history", "Branches of a repository."),
    "log": ("history", "Commits of a repository."),
    "diff": ("history", "What changed between two refs."),
    "compare": ("compare", "Compare data sets between two refs: rows, columns, values."),
    "merge": ("history", "Merge a ref into a branch."),
}


class Commands(click.Group):
    """Finds a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """All commands, in reading order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and take the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tulle.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_").replace("import", "import_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when one is not known."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from tulle.errors import did_you_mean

            raise click.UsageError(
                f"there is no command '{args[0]}' ({did_you_mean(args[0], COMMANDS)})", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `tulle demo`, or with `tulle init my-mesh`. `tulle COMMAND --help` explains a command.",
)
@click.option(
    "--mesh",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The mesh folder. Default: the nearest folder upwards that has a mesh.yaml.",
)
@click.version_option(package_name="tulle", prog_name="tulle")
@click.pass_context
def cli(ctx: click.Context, folder: Path | None) -> None:
    """Tulle: the whole data mesh in one package."""
    ctx.obj = folder


def main() -> None:
    """Run the command line; the only place that ends the process."""
    # What a command imports stays: walking over it again and again for cycles took a fifth of its time, and once
    # more at its end a quarter.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as exc:  # noqa: BLE001  the last door: nothing shows a stack trace to a user
        from tulle.cli.terminal import show_failure

        sys.exit(show_failure(exc))


if __name__ == "__main__":
    main()
