"""The program under a real Slurm: run by ``SATSCORE_SLURM_RIG=.../slurm-cluster pytest -m slurm`` as root."""
