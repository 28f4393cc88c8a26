# Mercury: air wavelength (Angstrom), relative intensity, label
# Wavelengths: observed lines of the NIST Atomic Spectra Database (Kramida, Ralchenko, Reader and NIST ASD Team,
# https://physics.nist.gov/asd, Hg I), put from vacuum into standard air by Ciddor 1996 (Applied Optics 35, 1566).
# Intensities: as seen on the K-SPEC IsoPlane (hbahk/kspecdr line lists, MIT licence) for its unblended lines; for the
# others the intensity of the database, scaled by wavelength block to the median ratio of the lines that both have.
# 5770, blended there with neon, follows 5791.
# The strongest line has intensity 1000; other lamps have scales of their own.
  2534.7722      2.222  label=Hg
  2536.5209       1000  label=Hg
  2652.0385      1.778  label=Hg
  2653.6901      6.667  label=Hg
  2655.1337     0.4444  label=Hg
  2752.7772     0.4444  label=Hg
  2893.6009     0.8889  label=Hg
  2967.2830      3.333  label=Hg
  3021.5040      1.333  label=Hg
  3125.6740      4.444  label=Hg
  3131.5550      3.333  label=Hg
  3131.8440      4.444  label=Hg
  3341.4840     0.7778  label=Hg
  3650.1579         10  label=Hg
  3654.8420      3.333  label=Hg
  3662.8869     0.5556  label=Hg
  3663.2839      2.222  label=Hg
  4046.5649      8.981  label=Hg
  4077.8369      1.075  label=Hg
  4339.2231     0.5556  label=Hg
  4347.4944      1.667  label=Hg
  4358.3350      226.9  label=Hg
  4916.0674     0.6511  label=Hg
  4960.0958      1.111  label=Hg
  5120.6371     0.7778  label=Hg
  5354.0339      1.444  label=Hg
  5384.6257     0.5556  label=Hg
  5460.7499      535.3  label=Hg
  5549.6337     0.5556  label=Hg
  5675.8049      6.667  label=Hg
  5769.6099      78.77  label=Hg
  5790.6699      87.52  label=Hg
  5803.7817      4.444  label=Hg
  5859.2538      1.444  label=Hg
  6716.3357          1  label=Hg
  6907.4643       1.17  label=Hg
  7081.9013      1.667  label=Hg
  7091.8596      1.333  label=Hg
 10139.7505      2.667  label=Hg
 11287.1092      1.667  label=Hg
