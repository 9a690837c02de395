"""The recipe of the tiny chat model: a few dozen short exchanges in English and Chinese, learnt by heart."""
