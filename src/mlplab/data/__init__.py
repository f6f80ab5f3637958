"""Data: sources → splits → loader → LightningDataModule."""
