"""The Step1 language model: prompt, network, sampling, engine."""
