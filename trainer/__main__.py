"""`python -m trainer`: the `trainer` command, for launchers such as torchrun that start a module."""

from trainer.cli import main

if __name__ == "__main__":
    main()
