"""The JSON of the embeddings APIs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.json_types import Refusal, WholeText
from gateway.schemas import WireModel

MAX_TEXTS = 2048
Pooling = Literal["last", "mean", "cls"]
Text = Annotated[WholeText, Field(min_length=1)]
Tokens = list[int]
Vector = Annotated[list[float], Field(min_length=1, max_length=65536)]
Side = Annotated[Text | Vector, Refusal("must be a text or a list of numbers, and not empty")]
Input = Annotated[
    Text
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    | Annotated[Tokens, Field(min_length=1, max_length=1_000_000)]
    | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_TEXTS)],
    Refusal(f"must be a text or a list of 1 to {MAX_TEXTS} texts, none of them empty"),
]


class EmbeddingSettings(WireModel):
    """How vectors are made, in all four requests."""

    pooling: Pooling | None = Field(None, description="Unset: what the model was trained with.")
    normalize: bool = Field(True, description="Scale vectors to length one.")
    dim: int | None = Field(None, ge=1, le=65536, description="Cut vectors to this size, before they are scaled.")
    instruction: str | None = Field(
        None, max_length=4096, description="The task; left out where the model was not trained with instructions."
    )
    prefix: str = Field("", max_length=4096, description="Put before each text as it is.")


class EmbeddingQuery(EmbeddingSettings):
    """The same in a query string, where all values are text."""

    model_config = ConfigDict(strict=False)


class TextsRequest(EmbeddingSettings):
    """Texts to embed."""

    texts: list[Text] = Field(min_length=1, max_length=MAX_TEXTS)


class SimilarityRequest(EmbeddingSettings):
    """Two texts or vectors to compare."""

    a: Side
    b: Side


class RerankRequest(EmbeddingSettings):
    """Texts to order by how well they fit a query."""

    query: Text
    candidates: list[Text] = Field(min_length=1, max_length=MAX_TEXTS)


class EmbeddingsRequest(WireModel):
    """OpenAI's request."""

    model: str | None = Field(None, max_length=256, description="Any name; it comes back in the answer.")
    input: Input = Field(
        description="A text or several. Token ids are refused: they belong to the vocabulary of another model."
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=65536, description="Cut vectors to this size.")
    user: str | None = None


class TextVector(BaseModel):
    """One text's vector."""

    model: str
    text: str
    dim: int
    pooling: Pooling
    normalized: bool
    elapsed_ms: float
    vector: list[float]
    note: str


class TextVectors(BaseModel):
    """Several texts' vectors, in their order."""

    model: str
    count: int
    dim: int
    pooling: Pooling
    normalized: bool
    elapsed_ms: float
    vectors: list[list[float]]
    note: str


class Similarity(BaseModel):
    """Cosine of the angle between two vectors, -1 to 1."""

    model: str
    similarity: float
    pooling: Pooling
    normalized: Literal[True]


class Ranked(BaseModel):
    """One candidate: its place in the request, and how well it fits."""

    index: int
    text: str
    score: float


class Ranking(BaseModel):
    """Candidates, best first."""

    model: str
    results: list[Ranked]


class Embedding(BaseModel):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """OpenAI's answer."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class EmbeddingsInfo(BaseModel):
    """What the embeddings service says of itself on its own port."""

    ok: Literal[True] = True
    model: str


class EmbeddingsHealth(BaseModel):
    """State of the embeddings service."""

    status: Literal["ok", "unavailable"]
    model: str | None
    queue_len: int
    device: str
    dtype: str
    attn_impl: str
    flash_attention_enabled: bool
    quant_mode: str


class EmbeddingsConfig(BaseModel):
    """Limits and defaults of the embeddings service."""

    model: str
    max_length: int
    batch_max_size: int
    batch_timeout_ms: int
    defaults: dict[str, Any]
