"""Functions through which a network sees latent weights: a choice by scores, or signs with a magnitude."""
