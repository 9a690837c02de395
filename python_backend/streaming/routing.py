"""Which tensors of a streamed request go to which model."""

VOICE_INPUTS = ("audio", "sample_rate", "dither", "voice_key")
LLM_INPUTS = (
    *("mode", "text", "prompt_text", "edit_info", "intensity", "temperature", "top_k", "top_p", "repetition_aware"),
    *("grammar", "seed", "max_tokens"),
)
FLOW_INPUTS = ("seed", "steps", "guidance")
