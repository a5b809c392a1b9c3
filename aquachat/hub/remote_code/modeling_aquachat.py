"""Aquachat models that `NanoChatForCausalLM` cannot hold, for `trust_remote_code=True`.

This file is shipped with an exported model and imports nothing but torch and transformers. On top
of nanochat's architecture, each where `config.json` asks for it:

    smear        add to each embedding a learned share, per channel, of the one before it
    x0_lambdas   before layer i, x = r_i x + l_i x0, with x0 the normed embedding
    qk_scale     a factor on the normed queries

Shapes: B batch, T time, C hidden size, L layers.
"""

import torch
from torch import nn
from transformers import NanoChatConfig, NanoChatForCausalLM, NanoChatModel
from transformers.cache_utils import DynamicLayer
from transformers.models.nanochat.modeling_nanochat import NanoChatDecoderLayer


class AquachatConfig(NanoChatConfig):
    """As `NanoChatConfig`, with `smear`, `x0_lambdas` and `qk_scale`."""

    model_type = "aquachat"


class _Mix:
    """What the layers of one forward pass share, outside the module tree."""

    def __init__(self, residual, x0):
        self.residual, self.x0 = residual, x0  # parameters (L,)
        self.first = None  # (B, T, C), the stream as the first layer receives it


class AquachatDecoderLayer(NanoChatDecoderLayer):
    """A layer that first mixes the embedding back in, where the model has x0 lambdas."""

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        self.index = layer_idx
        self.shared = ()
        self.self_attn.scaling *= getattr(config, "qk_scale", 1.0)

    def forward(self, hidden_states, *args, **kwargs):
        """(B, T, C) -> (B, T, C)."""
        if self.shared:
            mix = self.shared[0]
            if self.index == 0:
                mix.first = hidden_states
            hidden_states = (
                mix.residual[self.index] * hidden_states + mix.x0[self.index] * mix.first
            )
        return super().forward(hidden_states, *args, **kwargs)


class AquachatModel(NanoChatModel):
    """The transformer without its head."""

    config_class = AquachatConfig

    def __init__(self, config):
        super().__init__(config)
        num_layers = config.num_hidden_layers
        self.layers = nn.ModuleList(AquachatDecoderLayer(config, i) for i in range(num_layers))
        if getattr(config, "smear", False):
            self.smear = nn.Parameter(torch.zeros(config.hidden_size))
        else:
            self.smear = None
        if getattr(config, "x0_lambdas", False):
            self.residual_lambdas = nn.Parameter(torch.ones(num_layers))
            self.x0_lambdas = nn.Parameter(torch.zeros(num_layers))
        else:
            self.residual_lambdas = self.x0_lambdas = None
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs):
        """As `NanoChatModel.forward`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        mix = None
        if self.x0_lambdas is not None:
            mix = _Mix(self.residual_lambdas, self.x0_lambdas)
        for layer in self.layers:
            layer.shared = () if mix is None else (mix,)
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        smeared = inputs_embeds
        if self.smear is not None:
            previous = self._previous(inputs_embeds, attention_mask, cache)
            smeared = inputs_embeds + self.smear * previous
        output = super().forward(attention_mask=attention_mask, inputs_embeds=smeared, **kwargs)
        if self.smear is not None:
            self._remember(inputs_embeds, output)
        return output

    def _previous(self, embedded, attention_mask, cache):
        """(B, T, C): the embedding before each token, zeros at the start and behind padding."""
        num_seen = 0 if cache is None else cache.get_seq_length()
        if num_seen == 0:
            before = torch.zeros_like(embedded[:, :1])
        else:
            num_layers = self.config.num_hidden_layers
            if len(cache.layers) <= num_layers:
                raise ValueError("the cache was not made by this model")
            before = cache.layers[num_layers].keys[:, 0, -1:]
        previous = torch.cat((before, embedded[:, :-1]), dim=1)
        if attention_mask is not None and attention_mask.dim() == 2:
            start = attention_mask.shape[1] - embedded.shape[1]
            is_real = nn.functional.pad(attention_mask, (1, 0))[:, start:-1]
            previous = previous * is_real.unsqueeze(-1).to(previous.dtype)
        return previous

    def _remember(self, embedded, output):
        """Keep the embeddings in the cache as one more layer, so that they are moved with it."""
        cache = getattr(output, "cache", None)
        if cache is None:
            cache = getattr(output, "past_key_values", None)
        if cache is None:
            return
        num_layers = self.config.num_hidden_layers
        if len(cache.layers) == num_layers:
            cache.layers.append(DynamicLayer())
        states = embedded.unsqueeze(1)  # (B, 1, T, C), as one head
        cache.layers[num_layers].update(states, states[..., :1])


class AquachatForCausalLM(NanoChatForCausalLM):
    """The transformer with its head and the softcap on logits."""

    config_class = AquachatConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = AquachatModel(config)
        self.post_init()
